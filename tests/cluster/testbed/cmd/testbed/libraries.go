package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// libraries lists the shared libraries that a program needs, with the dynamic loader, where the
// loader looks for them. None for a static program and for what is no program at all.
func libraries(program string) ([]string, error) {
	if !isELF(program) {
		return nil, nil
	}
	output, err := exec.Command("ldd", program).CombinedOutput()
	if bytes.Contains(output, []byte("not a dynamic executable")) || bytes.Contains(output, []byte("statically linked")) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ldd %s: %w: %s", program, err, bytes.TrimSpace(output))
	}
	found, missing := parseLdd(output)
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s needs %s, which this machine does not have; install it", program, strings.Join(missing, ", "))
	}
	return found, nil
}

func librariesFound(program string) error {
	_, err := libraries(program)
	return err
}

// parseLdd reads lines such as
//
//	linux-vdso.so.1 (0x00007ffd)
//	libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1c)
//	libmnl.so.0 => not found
//	/lib64/ld-linux-x86-64.so.2 (0x00007f1d)
func parseLdd(output []byte) (found, missing []string) {
	lines := bufio.NewScanner(bytes.NewReader(output))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) >= 4 && words[1] == "=>" && words[2] == "not":
			missing = append(missing, words[0])
		case len(words) >= 3 && words[1] == "=>":
			found = append(found, words[2])
		case len(words) >= 1 && strings.HasPrefix(words[0], "/"):
			found = append(found, words[0])
		}
	}
	slices.Sort(found)
	return slices.Compact(found), missing
}

func isELF(path string) bool {
	file, err := os.Open(path)
	if err != nil {
		return false
	}
	defer file.Close()
	magic := make([]byte, 4)
	_, err = io.ReadFull(file, magic)
	return err == nil && string(magic) == "\x7fELF"
}
