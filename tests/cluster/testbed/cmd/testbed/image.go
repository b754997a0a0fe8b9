package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// The images that every node has from the start. `.invalid` never resolves: a pull of the pause
// image, were there one, would fail at once and not ask a registry.
const (
	pauseImage   = "testbed.invalid/pause:1"
	busyboxImage = "busybox:test"
)

func imageCommand(_ context.Context, arguments []string) error {
	options := newFlags("image")
	name := options.String("name", "", "the image's `NAME`, with a tag")
	out := options.String("out", "", "the `FILE` to write")
	user := options.String("user", "", "the `UID` that programs run as (root)")
	var copies []string
	options.Func("copy", "`SRC:DEST`, a file or a folder to put elsewhere; can be given again", func(value string) error {
		copies = append(copies, value)
		return nil
	})
	if err := parse(options, arguments, 0, math.MaxInt); err != nil {
		return err
	}
	if *name == "" || *out == "" {
		return errors.New("image: give --name and --out")
	}
	if options.NArg() == 0 && len(copies) == 0 {
		return errors.New("image: name at least one program, or give --copy")
	}
	if err := need(map[string]string{"ldd": "libc-bin"}); err != nil {
		return err
	}
	image := newArchive(*name)
	image.config.User = *user
	image.addAccounts()
	for _, program := range options.Args() {
		target := "/usr/bin/" + filepath.Base(program)
		if err := image.addFile(program, target); err != nil {
			return err
		}
		if image.config.Entrypoint == nil {
			image.config.Entrypoint = []string{target}
		}
	}
	for _, value := range copies {
		source, target, found := strings.Cut(value, ":")
		if !found || source == "" || !strings.HasPrefix(target, "/") {
			return fmt.Errorf("image: --copy %s: give SRC:DEST, with an absolute DEST", value)
		}
		if err := image.addTree(source, target); err != nil {
			return err
		}
	}
	return image.write(*out)
}

func (a *archive) addAccounts() {
	a.add("etc/passwd", entry{mode: 0o644, content: "root:x:0:0:root:/:/bin/sh\n" +
		"nobody:x:65534:65534:nobody:/:/bin/false\nnonroot:x:65532:65532:nonroot:/:/bin/false\n"})
	a.add("etc/group", entry{mode: 0o644, content: "root:x:0:\nnogroup:x:65534:\nnonroot:x:65532:\n"})
	a.add("tmp", entry{mode: fs.ModeDir | fs.ModeSticky | 0o777})
}

// makeImages writes the archives of the pause and the busybox image.
func (b built) makeImages(ctx context.Context) error {
	busybox, err := b.debianProgram("busybox")
	if err != nil {
		return err
	}
	names, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return fmt.Errorf("%s --list: %w", busybox, err)
	}
	tools := newArchive(busyboxImage)
	tools.config.Cmd = []string{"/bin/sh"}
	tools.addAccounts()
	tools.add("bin/busybox", entry{mode: 0o755, source: busybox})
	for _, name := range strings.Fields(string(names)) {
		if name != "busybox" {
			tools.add("bin/"+name, entry{mode: fs.ModeSymlink | 0o777, link: "busybox"})
		}
	}
	pause := newArchive(pauseImage)
	pause.config.Entrypoint = []string{"/pause"}
	pause.add("pause", entry{mode: 0o755, source: b.program("pause")})

	folder := filepath.Join(b.folder, "images")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if err := tools.write(filepath.Join(folder, "busybox.tar")); err != nil {
		return err
	}
	return pause.write(filepath.Join(folder, "pause.tar"))
}
