package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Where a machine sees its programs and the run's folder, wherever these are outside.
const (
	insideRun   = "/run/testbed"
	insideBuild = "/run/programs"
	insideLogs  = insideRun + "/logs"

	machinePath = insideBuild + "/bin:" + insideBuild + "/debian/usr/bin:" + insideBuild + "/debian/usr/sbin:" +
		"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// machineCommand is the first process of a machine: it takes orders until it is killed.
func machineCommand(_ context.Context, _ []string) error {
	if os.Getpid() != 1 {
		return errors.New("machine: `testbed up` calls this")
	}
	// A handler, not SIG_IGN: what is ignored stays ignored in every program that is started from
	// here, down to the pods.
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	syscall.CloseOnExec(3)

	k := newKeeper()
	orders := json.NewDecoder(bufio.NewReader(os.Stdin))
	replies := json.NewEncoder(os.NewFile(3, "replies"))
	for {
		var o order
		if err := orders.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read an order: %w", err)
		}
		output, err := k.obey(o)
		answer := reply{Output: output}
		if err != nil {
			answer.Error = err.Error()
		}
		if err := replies.Encode(answer); err != nil {
			return fmt.Errorf("answer an order: %w", err)
		}
	}
}

func (k *keeper) obey(o order) (string, error) {
	switch {
	case o.Setup != nil:
		return "", o.Setup.apply()
	case o.Start != nil:
		return "", k.start(*o.Start)
	case o.Stop != "":
		return "", k.stop(o.Stop)
	case o.Run != nil:
		return k.run(*o.Run)
	default:
		return "", errors.New("an order without content")
	}
}
