package main

import (
	"slices"
	"testing"
)

func TestParseHierarchies(t *testing.T) {
	v1 := parseHierarchies(`31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`)
	want := []hierarchy{
		{folder: "/sys/fs/cgroup/cpu,cpuacct"},
		{folder: "/sys/fs/cgroup/cpuset", cpuset: true},
		{folder: "/sys/fs/cgroup/unified", v2: true, beside: true},
	}
	if !slices.Equal(v1, want) {
		t.Errorf("version 1: %+v, want %+v", v1, want)
	}
	v2 := parseHierarchies("30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
	if want := []hierarchy{{folder: "/sys/fs/cgroup", v2: true}}; !slices.Equal(v2, want) {
		t.Errorf("version 2: %+v, want %+v", v2, want)
	}
}
