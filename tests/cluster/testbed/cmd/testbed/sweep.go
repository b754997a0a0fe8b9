package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// sweepCommand cleans every slot that has marks and no living owner.
func sweepCommand(_ context.Context, arguments []string) error {
	if err := parse(newFlags("sweep"), arguments, 0, 0); err != nil {
		return err
	}
	numbers, err := markedCgroups()
	if err != nil {
		return err
	}
	files, _ := os.ReadDir(registry)
	for _, file := range files {
		if number, err := strconv.Atoi(file.Name()); err == nil && number >= 0 && number < slots {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	var failed []error
	for _, number := range slices.Compact(numbers) {
		s, err := takeSlot(number)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if s == nil {
			progress("slot %d is of a live run", number)
			continue
		}
		if err := s.clean(); err != nil {
			failed = append(failed, fmt.Errorf("slot %d: %w", number, err))
			// The record stays: it is all that knows of the folder.
			s.lock.Close()
			continue
		}
		progress("slot %d is clean", number)
		s.release()
	}
	return errors.Join(failed...)
}

// clean removes all that bears the slot's marks. The caller has the slot's lock: whoever made this
// is dead, or it is our own.
func (s *slot) clean() error {
	failed := []error{s.removeLink(), removeCgroup(s.cgroup())}
	if r, found := s.read(); found {
		failed = append(failed, removeRunFolder(r, s.number))
	}
	return errors.Join(failed...)
}

// marker lies in a run's folder and holds the slot's number: a folder without it is not ours to
// remove, whatever a record says.
const marker = ".notrack-testbed"

// makeRunFolder records the folder before there is anything that a sweep would have to find by the
// record.
func (s *slot) makeRunFolder(folder string) error {
	// The records are gone after a reboot, the folders are not. Whoever had our slot is dead.
	if err := removeRunFolder(record{Folder: folder, Made: true}, s.number); err != nil {
		return err
	}
	content, err := os.ReadDir(folder)
	if err != nil && !os.IsNotExist(err) || len(content) > 0 {
		return fmt.Errorf("%s is not an empty folder; give --dir a folder that is, or none that exists", folder)
	}
	if err := s.write(record{Folder: folder, Made: err != nil}); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("make the run's folder: %w", err)
	}
	return os.WriteFile(filepath.Join(folder, marker), []byte(strconv.Itoa(s.number)), 0o644)
}

func removeRunFolder(r record, number int) error {
	content, err := os.ReadFile(filepath.Join(r.Folder, marker))
	if err != nil || string(content) != strconv.Itoa(number) {
		return nil
	}
	entries, err := os.ReadDir(r.Folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		// The marker goes last, so that what fails half way can be tried again.
		if entry.Name() != marker {
			if err := os.RemoveAll(filepath.Join(r.Folder, entry.Name())); err != nil {
				return fmt.Errorf("remove the run's folder: %w", err)
			}
		}
	}
	if err := os.Remove(filepath.Join(r.Folder, marker)); err != nil {
		return err
	}
	if r.Made {
		return os.Remove(r.Folder)
	}
	return nil
}
