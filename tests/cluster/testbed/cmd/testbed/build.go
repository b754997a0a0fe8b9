package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testbed"
	"time"
)

// A build is a folder of the cache that is complete as soon as it has its name.
//
//	bin/      kube and its names
//	debian/   unpacked packages
//	images/   archives that every node gets
type built struct{ folder string }

func (b built) program(name string) string { return filepath.Join(b.folder, "bin", name) }

var kubeNames = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl"}

func buildCommand(ctx context.Context, arguments []string) error {
	if err := parse(newFlags("build"), arguments, 0, 0); err != nil {
		return err
	}
	b, err := build(ctx)
	if err == nil {
		fmt.Println(b.folder)
	}
	return err
}

// build returns the folder for these sources, and makes it first when it is not there.
func build(ctx context.Context) (built, error) {
	cache, err := cacheFolder()
	if err != nil {
		return built{}, err
	}
	key, err := contentHash()
	if err != nil {
		return built{}, err
	}
	b := built{folder: filepath.Join(cache, key)}
	if b.complete() {
		return b, nil
	}
	if err := need(map[string]string{"go": "Go 1.26 or later", "apt-get": "apt", "dpkg-deb": "dpkg"}); err != nil {
		return built{}, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return built{}, fmt.Errorf("make the cache folder: %w", err)
	}
	unlock, err := lockBuild(filepath.Join(cache, "build.lock"))
	if err != nil {
		return built{}, err
	}
	defer unlock()
	if b.complete() {
		return b, nil
	}
	return b, b.make(ctx, cache)
}

func (b built) complete() bool {
	_, err := os.Stat(b.folder)
	return err == nil
}

func (b built) make(ctx context.Context, cache string) error {
	// Under the lock nobody else works here: what lies about is of a build that was killed.
	stale, _ := filepath.Glob(filepath.Join(cache, "unfinished-*"))
	for _, folder := range stale {
		os.RemoveAll(folder)
	}
	work, err := os.MkdirTemp(cache, "unfinished-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	began := time.Now()
	target := built{folder: work}
	for _, step := range []func(context.Context) error{target.unpackDebian, target.compile, target.makeImages} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return err
	}
	if err := os.Rename(work, b.folder); err != nil {
		return fmt.Errorf("put the build into its place: %w", err)
	}
	progress("built in %s", time.Since(began).Round(time.Second))
	return nil
}

// compile builds with the sources that are embedded here.
func (b built) compile(ctx context.Context) error {
	source := filepath.Join(b.folder, "source")
	defer os.RemoveAll(source)
	if err := os.CopyFS(source, testbed.Sources); err != nil {
		return fmt.Errorf("write the sources: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(b.folder, "bin"), 0o755); err != nil {
		return err
	}
	version, err := kubernetesVersion()
	if err != nil {
		return err
	}
	// Without its version the API server says v0.0.0-master, which clients cannot compare.
	flags := []string{"-s", "-w"}
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	for name, value := range map[string]string{"gitVersion": version, "gitMajor": parts[0], "gitMinor": parts[1]} {
		for _, of := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
			flags = append(flags, "-X", of+"."+name+"="+value)
		}
	}
	progress("compiling Kubernetes %s: up to 20 minutes on two cores the first time, seconds from a warm build cache", version)
	for _, name := range []string{"pause", "kube"} {
		command := exec.CommandContext(ctx, "go", "build", "-trimpath", "-mod=readonly", "-buildvcs=false",
			"-ldflags", strings.Join(flags, " "), "-o", b.program(name), "./cmd/"+name)
		command.Dir = source
		// Static programs do not depend on the machine's libraries. The setting is part of every key
		// in Go's build cache: with another one each package is compiled again.
		command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
		command.Stderr = os.Stderr
		if err := command.Run(); err != nil {
			return fmt.Errorf("compile cmd/%s: %w", name, err)
		}
	}
	for _, name := range kubeNames {
		if err := os.Symlink("kube", b.program(name)); err != nil {
			return err
		}
	}
	return nil
}

// contentHash names a build by all that decides what is in it.
func contentHash() (string, error) {
	hash := sha256.New()
	err := fs.WalkDir(testbed.Sources, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := testbed.Sources.ReadFile(path)
		fmt.Fprintf(hash, "%s %d\n%s", path, len(content), content)
		return err
	})
	fmt.Fprintln(hash, recipe, debianPackages, kubeNames)
	return fmt.Sprintf("%x", hash.Sum(nil)[:8]), err
}

// recipe counts the changes to what build does with the same sources and packages.
const recipe = 1

func kubernetesVersion() (string, error) { return moduleVersion("k8s.io/kubernetes") }

func moduleVersion(module string) (string, error) {
	content, err := testbed.Sources.ReadFile("go.mod")
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(module) + ` (v\S+)`).FindSubmatch(content)
	if found == nil {
		return "", fmt.Errorf("go.mod does not require %s", module)
	}
	return string(found[1]), nil
}

func versionCommand(_ context.Context, arguments []string) error {
	if err := parse(newFlags("version"), arguments, 0, 0); err != nil {
		return err
	}
	for _, module := range []string{"k8s.io/kubernetes", "go.etcd.io/etcd/server/v3"} {
		version, err := moduleVersion(module)
		if err != nil {
			return err
		}
		fmt.Println(module, version)
	}
	key, err := contentHash()
	fmt.Println("build", key)
	return err
}

func cacheFolder() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder: %w; set XDG_CACHE_HOME or HOME", err)
	}
	return filepath.Join(cache, "notrack", "testbed"), nil
}

func lockBuild(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		progress("waiting for another build (%s)", path)
		for {
			if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
				break
			}
		}
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { file.Close() }, nil
}

// need says what to install when programs are missing.
func need(packages map[string]string) error {
	var missing []string
	for program, from := range packages {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, fmt.Sprintf("%s (%s)", program, from))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not in PATH: %s; install what is in brackets", strings.Join(missing, ", "))
	}
	return nil
}
