package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A keeper starts a machine's processes, and reaps those and the orphans that the kernel gives to
// the first process of a machine.
//
// os/exec cannot be used beside that: whoever waits for any child takes its exit status away.
type keeper struct {
	mutex    sync.Mutex
	children map[int]chan syscall.WaitStatus
	programs map[string]*kept
}

// A kept program runs until stop is closed.
type kept struct {
	stop chan struct{}
	gone chan struct{}
}

// What keeps a program that ends at once from using up a core.
const restartDelay = time.Second

func newKeeper() *keeper {
	k := &keeper{children: map[int]chan syscall.WaitStatus{}, programs: map[string]*kept{}}
	died := make(chan os.Signal, 1)
	signal.Notify(died, syscall.SIGCHLD)
	go func() {
		for range died {
			k.reap()
		}
	}()
	return k
}

func (k *keeper) reap() {
	// The lock spans start's fork and its entry in the map: a child that dies in between is not missed.
	k.mutex.Lock()
	defer k.mutex.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if done, ours := k.children[pid]; ours {
			delete(k.children, pid)
			done <- status
		}
	}
}

// fork starts a process whose standard files are given; its exit status comes through the channel.
func (k *keeper) fork(arguments, environment []string, files ...*os.File) (int, <-chan syscall.WaitStatus, error) {
	path, err := exec.LookPath(arguments[0])
	if err != nil {
		return 0, nil, err
	}
	attributes := &syscall.ProcAttr{Env: append(os.Environ(), environment...), Sys: &syscall.SysProcAttr{Setsid: true}}
	for _, file := range files {
		attributes.Files = append(attributes.Files, file.Fd())
	}
	k.mutex.Lock()
	defer k.mutex.Unlock()
	pid, err := syscall.ForkExec(path, arguments, attributes)
	if err != nil {
		return 0, nil, fmt.Errorf("start %s: %w", path, err)
	}
	done := make(chan syscall.WaitStatus, 1)
	k.children[pid] = done
	return pid, done, nil
}

func (k *keeper) start(p program) error {
	if k.programs[p.Name] != nil {
		return fmt.Errorf("%s runs already", p.Name)
	}
	name, _ := os.Hostname()
	log, err := os.OpenFile(fmt.Sprintf("%s/%s-%s.log", insideLogs, name, p.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	nothing, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	begin := func() (int, <-chan syscall.WaitStatus, error) {
		return k.fork(p.Arguments, p.Environment, nothing, log, log)
	}
	pid, done, err := begin()
	if err != nil {
		return err
	}
	own := &kept{stop: make(chan struct{}), gone: make(chan struct{})}
	k.programs[p.Name] = own
	go func() {
		defer close(own.gone)
		defer nothing.Close()
		defer log.Close()
		for {
			select {
			case <-own.stop:
				_ = syscall.Kill(pid, syscall.SIGKILL)
				<-done
				return
			case status := <-done:
				fmt.Fprintf(log, "testbed: %s ended (%s), starting it again\n", p.Name, describe(status))
			}
			select {
			case <-own.stop:
				return
			case <-time.After(restartDelay):
			}
			if pid, done, err = begin(); err != nil {
				fmt.Fprintln(log, "testbed:", err)
				<-own.stop
				return
			}
		}
	}()
	return nil
}

func (k *keeper) stop(name string) error {
	own := k.programs[name]
	if own == nil {
		return fmt.Errorf("%s does not run", name)
	}
	close(own.stop)
	<-own.gone
	delete(k.programs, name)
	return nil
}

func (k *keeper) run(t tool) (string, error) {
	reading, input, err := os.Pipe()
	if err != nil {
		return "", err
	}
	output, writing, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer output.Close()
	_, done, err := k.fork(t.Arguments, nil, reading, writing, writing)
	reading.Close()
	writing.Close()
	if err != nil {
		input.Close()
		return "", err
	}
	go func() {
		_, _ = io.WriteString(input, t.Input)
		input.Close()
	}()
	content, err := io.ReadAll(output)
	if err != nil {
		return "", err
	}
	if status := <-done; status.ExitStatus() != 0 {
		return string(content), fmt.Errorf("%s: %s: %s", strings.Join(t.Arguments, " "), describe(status), strings.TrimSpace(string(content)))
	}
	return string(content), nil
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}
