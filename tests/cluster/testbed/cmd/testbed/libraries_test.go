package main

import (
	"slices"
	"testing"
)

func TestParseLdd(t *testing.T) {
	found, missing := parseLdd([]byte(`	linux-vdso.so.1 (0x00007ffd1)
	libmnl.so.0 => not found
	libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f1c)
	/lib64/ld-linux-x86-64.so.2 (0x00007f1d)
`))
	if want := []string{"/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"}; !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
	if want := []string{"libmnl.so.0"}; !slices.Equal(missing, want) {
		t.Errorf("missing %q, want %q", missing, want)
	}
}
