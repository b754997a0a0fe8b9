package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// setup is what a machine needs to know to make its own file system.
type setup struct {
	Name string `json:"name"`
	// The run's folder, the machine's part of it, and the build, as seen from outside.
	Run   string `json:"run"`
	Own   string `json:"own"`
	Build string `json:"build"`
}

// A mount names its target below the new root.
type mount struct {
	source, target, kind string
	flags                uintptr
	options              string
}

// apply gives the machine a root of its own: this machine's, under a layer in memory. What a node or
// a pod writes anywhere never reaches the machine that the tests run on.
func (s *setup) apply() error {
	if err := syscall.Sethostname([]byte(s.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	// Otherwise the mounts below would show up outside.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	root, err := s.overlay()
	if err != nil {
		return err
	}
	if err := s.fill(root); err != nil {
		return err
	}
	if err := enter(root); err != nil {
		return err
	}
	if err := maskMachineWide(); err != nil {
		return err
	}
	// The kubelet's mounts must appear in pods that ask for it.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share the mounts: %w", err)
	}
	return s.identify()
}

// overlay mounts the new root. Its upper layer is in memory: the kernel refuses one that lies below
// the lower layer, and the lower one is /.
func (s *setup) overlay() (string, error) {
	base := filepath.Join(s.Own, "root")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", err
	}
	if err := syscall.Mount("tmpfs", base, "tmpfs", 0, "mode=755"); err != nil {
		return "", fmt.Errorf("mount memory on %s: %w", base, err)
	}
	root := filepath.Join(base, "root")
	for _, name := range []string{"root", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(base, name), 0o755); err != nil {
			return "", err
		}
	}
	options := fmt.Sprintf("lowerdir=/,upperdir=%s/upper,workdir=%s/work", base, base)
	if err := syscall.Mount("overlay", root, "overlay", 0, options); err != nil {
		return "", fmt.Errorf("mount an overlay of / on %s: %w", root, err)
	}
	return root, nil
}

func (s *setup) fill(root string) error {
	const nosuid = syscall.MS_NOSUID | syscall.MS_NODEV
	const tree = syscall.MS_BIND | syscall.MS_REC
	mounts := []mount{
		{source: "proc", target: "proc", kind: "proc", flags: nosuid | syscall.MS_NOEXEC},
		// A new one, because /sys/class/net shows the network namespace of whoever mounted it.
		{source: "sysfs", target: "sys", kind: "sysfs", flags: nosuid | syscall.MS_NOEXEC},
		{source: cgroupMount, target: cgroupMount, flags: tree},
		{source: "/dev", target: "dev", flags: tree},
		{source: "tmpfs", target: "run", kind: "tmpfs", flags: nosuid, options: "mode=755"},
		{source: "tmpfs", target: "tmp", kind: "tmpfs", flags: nosuid, options: "mode=1777"},
		{source: s.Run, target: insideRun, flags: syscall.MS_BIND},
		{source: s.Build, target: insideBuild, flags: syscall.MS_BIND},
		// On disk: images are too large for memory, an overlay cannot hold containerd's overlays, and a
		// node's identity outlives a power cut.
		{source: s.disk("containerd"), target: "var/lib/containerd", flags: syscall.MS_BIND},
		{source: s.disk("kubelet"), target: "var/lib/kubelet", flags: syscall.MS_BIND},
	}
	for _, m := range mounts {
		target := filepath.Join(root, m.target)
		if m.kind == "" {
			if err := os.MkdirAll(m.source, 0o755); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(m.source, target, m.kind, m.flags, m.options); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, target, err)
		}
	}
	return nil
}

func (s *setup) disk(name string) string { return filepath.Join(s.Own, name) }

// enter makes the folder the root and lets go of the old one.
func enter(root string) error {
	if err := os.Chdir(root); err != nil {
		return err
	}
	// The old root comes to lie on top of the new one, from where it is taken off: no folder needed.
	if err := syscall.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change the root to %s: %w", root, err)
	}
	if err := syscall.Unmount(".", syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the old root: %w", err)
	}
	return os.Chdir("/")
}

// machineWide are the settings that the kubelet writes and that no namespace separates. It gets files
// with the values that it wants.
var machineWide = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

func maskMachineWide() error {
	for name, value := range machineWide {
		setting := filepath.Join("/proc/sys", name)
		if _, err := os.Stat(setting); errors.Is(err, os.ErrNotExist) {
			continue
		}
		file := filepath.Join("/run/sysctl", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(file, setting, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("cover %s: %w", setting, err)
		}
	}
	return nil
}

// identify writes what tells machines apart, and makes a router of this one.
func (s *setup) identify() error {
	id := sha256.Sum256([]byte(s.Own))
	files := map[string]string{
		"/etc/hostname":                 s.Name + "\n",
		"/etc/machine-id":               fmt.Sprintf("%x\n", id[:16]),
		"/proc/sys/net/ipv4/ip_forward": "1\n",
		"/run/resolv.conf":              "nameserver 127.0.0.1\n",
	}
	for name, content := range files {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}
