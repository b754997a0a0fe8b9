package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
)

// A machine is a set of namespaces (network, mounts, processes, host name, IPC) with this program
// as its first process. Killing that process kills all in it: the kernel sees to it.
type machine struct {
	name    string
	process *os.Process
	dead    chan struct{}

	mutex   sync.Mutex
	orders  *json.Encoder
	replies *json.Decoder
}

// machineArgument makes this program the first process of a machine.
const machineArgument = "machine"

// The orders that a machine takes on its standard input, one of them set in each, and its answer on
// descriptor 3.
type order struct {
	Setup *setup   `json:"setup,omitempty"`
	Start *program `json:"start,omitempty"`
	Stop  string   `json:"stop,omitempty"`
	Run   *tool    `json:"run,omitempty"`
}

// A program runs until it is stopped, and again when it ends by itself.
type program struct {
	Name        string   `json:"name"`
	Arguments   []string `json:"arguments"`
	Environment []string `json:"environment,omitempty"`
}

// A tool runs once, to its end.
type tool struct {
	Arguments []string `json:"arguments"`
	Input     string   `json:"input,omitempty"`
}

type reply struct {
	Output string `json:"output,omitempty"`
	Error  string `json:"error,omitempty"`
}

// newMachine returns when the machine has its private file system.
func newMachine(ctx context.Context, name, runFolder string, b built) (*machine, error) {
	own := filepath.Join(runFolder, name)
	if err := os.MkdirAll(own, 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(runFolder, "logs", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	answers, answering, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer answering.Close()
	// Not the file's name: on a later start of a node it may have been replaced or removed.
	command := exec.Command("/proc/self/exe", machineArgument)
	command.Env = []string{"PATH=" + machinePath, "HOME=/root", "LANG=C.UTF-8"}
	command.Stdout, command.Stderr = log, log
	command.ExtraFiles = []*os.File{answering}
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
		// A terminal's interrupt is for the supervisor, which takes the machines down in order.
		Setsid: true,
	}
	orders, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := onLastingThread(command.Start); err != nil {
		return nil, fmt.Errorf("start machine %s: %w; namespaces need root", name, err)
	}
	m := &machine{
		name:    name,
		process: command.Process,
		dead:    make(chan struct{}),
		orders:  json.NewEncoder(orders),
		replies: json.NewDecoder(answers),
	}
	go func() {
		_ = command.Wait()
		answers.Close()
		close(m.dead)
	}()
	_, err = m.do(ctx, order{Setup: &setup{Name: name, Run: runFolder, Own: own, Build: b.folder}})
	if err != nil {
		m.kill()
		return nil, err
	}
	return m, nil
}

func (m *machine) pid() int { return m.process.Pid }

func (m *machine) network() string { return fmt.Sprintf("/proc/%d/ns/net", m.pid()) }

func (m *machine) start(ctx context.Context, p program) error {
	_, err := m.do(ctx, order{Start: &p})
	return err
}

// stop kills the program and returns when it is gone.
func (m *machine) stop(ctx context.Context, name string) error {
	_, err := m.do(ctx, order{Stop: name})
	return err
}

func (m *machine) run(ctx context.Context, input string, arguments ...string) (string, error) {
	return m.do(ctx, order{Run: &tool{Arguments: arguments, Input: input}})
}

// do gives one order and waits for its answer. A cancelled wait kills the machine: its next answer
// would be taken for another order's.
func (m *machine) do(ctx context.Context, o order) (string, error) {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	var answer reply
	done := make(chan error, 1)
	go func() {
		if err := m.orders.Encode(o); err != nil {
			done <- err
			return
		}
		done <- m.replies.Decode(&answer)
	}()
	select {
	case err := <-done:
		if err != nil {
			return "", fmt.Errorf("machine %s does not answer (%w); see logs/%s.log", m.name, err, m.name)
		}
	case <-ctx.Done():
		m.kill()
		return "", context.Cause(ctx)
	}
	if answer.Error != "" {
		return answer.Output, fmt.Errorf("on machine %s: %s", m.name, answer.Error)
	}
	return answer.Output, nil
}

// kill returns when no process of the machine is left.
func (m *machine) kill() {
	if err := m.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		progress("kill machine %s: %v", m.name, err)
	}
	<-m.dead
}

var lasting = make(chan func())

// onLastingThread runs a function on a thread that lives as long as the supervisor. The kernel
// delivers a death signal when the *thread* that started the child ends, and Go ends threads.
func onLastingThread(start func() error) error {
	startLasting()
	done := make(chan error, 1)
	lasting <- func() { done <- start() }
	return <-done
}

var startLasting = sync.OnceFunc(func() {
	go func() {
		runtime.LockOSThread()
		for work := range lasting {
			work()
		}
	}()
})
