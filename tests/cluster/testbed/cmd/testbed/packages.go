package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// debianPackages are unpacked, never installed: installing would start containerd on the machine.
var debianPackages = []string{"containerd", "runc", "containernetworking-plugins", "busybox-static"}

func (b built) unpackDebian(ctx context.Context) error {
	progress("unpacking %s", strings.Join(debianPackages, ", "))
	archives := filepath.Join(b.folder, "archives")
	target := filepath.Join(b.folder, "debian")
	for _, folder := range []string{archives, target} {
		if err := os.Mkdir(folder, 0o755); err != nil {
			return err
		}
	}
	defer os.RemoveAll(archives)
	// apt's own user may not write into a folder of root.
	download := append([]string{"--quiet", "--option", "APT::Sandbox::User=root", "download"}, debianPackages...)
	if err := runIn(ctx, archives, "apt-get", download...); err != nil {
		return fmt.Errorf("%w; after `apt-get update` it may work", err)
	}
	packages, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range packages {
		if err := runIn(ctx, archives, "dpkg-deb", "--extract", file, target); err != nil {
			return err
		}
	}
	for _, program := range []string{"runc", "containerd", "ctr", "busybox"} {
		path, err := b.debianProgram(program)
		if err != nil {
			return err
		}
		if err := librariesFound(path); err != nil {
			return err
		}
	}
	return nil
}

// Folders of the unpacked packages that hold programs.
var debianFolders = []string{"usr/bin", "usr/sbin", "bin", "sbin"}

func (b built) debianProgram(name string) (string, error) {
	for _, folder := range debianFolders {
		path := filepath.Join(b.folder, "debian", folder, name)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("Debian's packages %s hold no program %s", strings.Join(debianPackages, ", "), name)
}

func runIn(ctx context.Context, folder, program string, arguments ...string) error {
	command := exec.CommandContext(ctx, program, arguments...)
	command.Dir = folder
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(arguments, " "), err, bytes.TrimSpace(output))
	}
	return nil
}
