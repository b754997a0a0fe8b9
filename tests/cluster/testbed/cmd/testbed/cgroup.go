package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const cgroupMount = "/sys/fs/cgroup"

// A hierarchy is one tree of cgroups: one for all controllers in version 2, one for each (or
// several together) in version 1.
type hierarchy struct {
	folder string
	v2     bool
	cpuset bool
	// A version 2 tree beside those of version 1 has no controllers. runc makes its folders there too.
	beside bool
}

// hierarchies reads from the mount table what the machine has.
func hierarchies() ([]hierarchy, error) {
	content, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	found := parseHierarchies(string(content))
	if len(found) == 0 {
		return nil, fmt.Errorf("no cgroups are mounted below %s; mount cgroup2 there", cgroupMount)
	}
	return found, nil
}

func parseHierarchies(mountinfo string) []hierarchy {
	var found []hierarchy
	lines := bufio.NewScanner(strings.NewReader(mountinfo))
	for lines.Scan() {
		left, right, _ := strings.Cut(lines.Text(), " - ")
		mount, super := strings.Fields(left), strings.Fields(right)
		if len(mount) < 5 || len(super) < 3 {
			continue
		}
		folder := mount[4]
		switch {
		case super[0] == "cgroup2" && folder == cgroupMount:
			found = append(found, hierarchy{folder: folder, v2: true})
		case super[0] == "cgroup2" && filepath.Dir(folder) == cgroupMount:
			found = append(found, hierarchy{folder: folder, v2: true, beside: true})
		case super[0] == "cgroup" && filepath.Dir(folder) == cgroupMount:
			options := strings.Split(super[2], ",")
			found = append(found, hierarchy{folder: folder, cpuset: slices.Contains(options, "cpuset")})
		}
	}
	return found
}

// makeCgroup makes a folder below the run's own in every hierarchy: the kubelet wants its root there
// before it starts.
func makeCgroup(name string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		if h.beside {
			continue
		}
		folder := h.folder
		for _, part := range strings.Split(name, "/") {
			if h.v2 {
				if err := enableControllers(folder); err != nil {
					return err
				}
			}
			parent := folder
			folder = filepath.Join(folder, part)
			if err := os.Mkdir(folder, 0o755); err != nil && !os.IsExist(err) {
				return fmt.Errorf("make a cgroup: %w; run as root", err)
			}
			if h.cpuset {
				if err := copyCpuset(parent, folder); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// copyCpuset: in version 1 a new cpuset is empty, and no process may enter it.
func copyCpuset(parent, folder string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		content, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, file), content, 0o644); err != nil {
			return fmt.Errorf("fill %s/%s: %w", folder, file, err)
		}
	}
	return nil
}

// enableControllers: in version 2 a folder has only the controllers that its parent passes on. The
// kubelet refuses a root without cpu, cpuset, memory and pids.
func enableControllers(folder string) error {
	available, err := os.ReadFile(filepath.Join(folder, "cgroup.controllers"))
	if err != nil {
		return err
	}
	control := filepath.Join(folder, "cgroup.subtree_control")
	content, err := os.ReadFile(control)
	if err != nil {
		return err
	}
	enabled := strings.Fields(string(content))
	for _, controller := range strings.Fields(string(available)) {
		if slices.Contains(enabled, controller) {
			continue
		}
		err := os.WriteFile(control, []byte("+"+controller), 0o644)
		if err != nil && slices.Contains([]string{"cpu", "cpuset", "memory", "pids"}, controller) {
			return fmt.Errorf("pass the %s controller on in %s: %w; a folder with processes in it cannot, run from the machine's own root", controller, folder, err)
		}
	}
	return nil
}

// removeCgroup removes the folder and all below it in every hierarchy. The kernel says "busy" until
// the last killed process has been reaped.
func removeCgroup(name string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		deadline := time.Now().Add(10 * time.Second)
		for {
			err := removeFolders(filepath.Join(h.folder, name))
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("remove a cgroup: %w; a process in it may still live", err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// removeFolders removes folders only, the deepest first: the files in a cgroup are the kernel's.
func removeFolders(root string) error {
	var folders []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			folders = append(folders, path)
		}
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for _, folder := range slices.Backward(folders) {
		if err := syscall.Rmdir(folder); err != nil && err != syscall.ENOENT {
			return &os.PathError{Op: "rmdir", Path: folder, Err: err}
		}
	}
	return nil
}

// markedCgroups lists the slots for which there are cgroups.
func markedCgroups() ([]int, error) {
	all, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var found []int
	for _, h := range all {
		for number := range slots {
			s := slot{number: number}
			if _, err := os.Stat(filepath.Join(h.folder, s.cgroup())); err == nil && !slices.Contains(found, number) {
				found = append(found, number)
			}
		}
	}
	return found, nil
}
