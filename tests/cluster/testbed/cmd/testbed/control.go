package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// A request asks a supervisor for a change, over the socket in its run's folder. One request and one
// reply a connection.
type request struct {
	Verb string `json:"verb"`
	What string `json:"what"`
}

const verbLoad = "load"

func socketPath(folder string) string { return filepath.Join(folder, "control.sock") }

func ctlCommand(ctx context.Context, arguments []string) error {
	options := newFlags("ctl")
	if err := parse(options, arguments, 3, 3); err != nil {
		return err
	}
	return ask(ctx, options.Arg(0), request{Verb: options.Arg(1), What: options.Arg(2)})
}

func loadCommand(ctx context.Context, arguments []string) error {
	options := newFlags("load")
	if err := parse(options, arguments, 2, 2); err != nil {
		return err
	}
	image, err := filepath.Abs(options.Arg(1))
	if err != nil {
		return err
	}
	return ask(ctx, options.Arg(0), request{Verb: verbLoad, What: image})
}

func ask(ctx context.Context, folder string, r request) error {
	var dialer net.Dialer
	connection, err := dialer.DialContext(ctx, "unix", socketPath(folder))
	if err != nil {
		return fmt.Errorf("no cluster runs in %s (%w); give the `dir` that up printed", folder, err)
	}
	defer connection.Close()
	defer context.AfterFunc(ctx, func() { connection.Close() })()
	if err := json.NewEncoder(connection).Encode(r); err != nil {
		return err
	}
	var answer reply
	if err := json.NewDecoder(connection).Decode(&answer); err != nil {
		return fmt.Errorf("the cluster in %s ended before it answered: %w", folder, err)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return nil
}

// listen serves requests until the returned function is called, which waits for the one in work.
func (c *cluster) listen(ctx context.Context) (stop func(), err error) {
	listener, err := net.Listen("unix", socketPath(c.folder))
	if err != nil {
		return nil, fmt.Errorf("listen for ctl: %w", err)
	}
	// Whoever may write here may stop the cluster.
	if err := os.Chmod(socketPath(c.folder), 0o600); err != nil {
		return nil, err
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go c.serve(ctx, connection)
		}
	}()
	return func() {
		listener.Close()
		c.changing.Lock()
	}, nil
}

func (c *cluster) serve(ctx context.Context, connection net.Conn) {
	defer connection.Close()
	var r request
	if err := json.NewDecoder(connection).Decode(&r); err != nil {
		return
	}
	var answer reply
	if err := c.obey(ctx, r); err != nil {
		answer.Error = err.Error()
	}
	_ = json.NewEncoder(connection).Encode(answer)
}

func (c *cluster) obey(ctx context.Context, r request) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	if ctx.Err() != nil {
		return errors.New("the cluster is being taken down")
	}
	if r.Verb == verbLoad {
		return c.load(ctx, r.What)
	}
	return c.change(ctx, r.Verb, r.What)
}
