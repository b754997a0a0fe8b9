package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
)

// registry holds a file for each run on this machine. The run's supervisor has it locked: the
// kernel lets go of the lock when the supervisor dies, however it dies.
const registry = "/run/notrack-testbed"

// A slot is the right to one set of names and addresses.
type slot struct {
	number int
	lock   *os.File
}

// A record says what a later sweep cannot know by a name.
type record struct {
	Folder string `json:"folder"`
	// Whether the folder itself is of the run, not only what is in it.
	Made bool `json:"made"`
}

// takeFreeSlot finds a slot that no live run has and whose addresses the machine does not use, and
// removes what a dead run left under its name.
func takeFreeSlot() (*slot, error) {
	used, err := machineNetworks()
	if err != nil {
		return nil, err
	}
	for number := range slots {
		s, err := takeSlot(number)
		if err != nil {
			return nil, err
		}
		if s == nil {
			continue
		}
		if err := s.clean(); err != nil {
			progress("what a dead run left in slot %d stays: %v", number, err)
			s.lock.Close()
			continue
		}
		if !overlaps(used, s.whole()) {
			return s, nil
		}
		s.release()
	}
	return nil, fmt.Errorf("all %d address ranges from 10.%d.0.0/16 on are in use; end other runs, or run `testbed sweep`", slots, firstRange)
}

// takeSlot returns nil when a live run has it.
func takeSlot(number int) (*slot, error) {
	s := &slot{number: number}
	for {
		if err := os.MkdirAll(registry, 0o755); err != nil {
			return nil, fmt.Errorf("make the folder of runs: %w; run as root", err)
		}
		file, err := os.OpenFile(s.file(), os.O_CREATE|os.O_RDWR, 0o644)
		if errors.Is(err, os.ErrNotExist) {
			continue // the last run that ended took the folder with it
		}
		if err != nil {
			return nil, fmt.Errorf("open the run's file: %w; run as root", err)
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			file.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, nil
			}
			return nil, fmt.Errorf("lock %s: %w", s.file(), err)
		}
		// The last owner removes the file while it holds the lock: what we locked may have no name by now.
		mine, err := file.Stat()
		if err != nil {
			return nil, err
		}
		if named, err := os.Stat(s.file()); err == nil && os.SameFile(mine, named) {
			s.lock = file
			return s, nil
		}
		file.Close()
	}
}

func (s *slot) write(r record) error {
	content, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return os.WriteFile(s.file(), content, 0o644)
}

func (s *slot) read() (record, bool) {
	var r record
	content, err := os.ReadFile(s.file())
	if err != nil || len(content) == 0 {
		return r, false
	}
	return r, json.Unmarshal(content, &r) == nil
}

// release gives the slot away. Its file goes first, then the lock, with the descriptor.
func (s *slot) release() {
	os.Remove(s.file())
	os.Remove(registry) // fails while it holds another run's file
	s.lock.Close()
}

func overlaps(networks []netip.Prefix, wanted netip.Prefix) bool {
	for _, network := range networks {
		if network.Overlaps(wanted) {
			return true
		}
	}
	return false
}
