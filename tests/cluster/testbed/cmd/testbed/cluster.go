package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// A cluster is one run.
type cluster struct {
	slot      *slot
	folder    string
	built     built
	proxyMode string

	api     *api
	control *machine
	nodes   []*node

	// One change at a time: `ctl` and `load` may be called at once.
	changing sync.Mutex
	loaded   int
}

// start brings everything up and returns when tests can begin.
func (c *cluster) start(ctx context.Context) error {
	if err := c.makeCredentials(); err != nil {
		return fmt.Errorf("make the credentials: %w", err)
	}
	if err := c.takeOwnImages(); err != nil {
		return err
	}
	var err error
	if c.control, err = newMachine(ctx, controlName, c.folder, c.built); err != nil {
		return err
	}
	if err := c.connectControl(ctx); err != nil {
		return err
	}
	// The nodes' container runtimes start while the API server does.
	starting := []func(context.Context) error{c.startControlPlane}
	for _, n := range c.nodes {
		starting = append(starting, func(ctx context.Context) error { return c.powerNode(ctx, n) })
	}
	if err := c.together(ctx, starting...); err != nil {
		return err
	}
	starting = []func(context.Context) error{c.usable}
	for _, n := range c.nodes {
		starting = append(starting, func(ctx context.Context) error { return c.startNodePrograms(ctx, n) })
	}
	return c.together(ctx, starting...)
}

// end kills everything and returns when no process is left.
func (c *cluster) end() {
	machines := []*machine{c.control}
	for _, n := range c.nodes {
		machines = append(machines, n.machine)
	}
	var killed sync.WaitGroup
	for _, m := range machines {
		if m != nil {
			killed.Go(m.kill)
		}
	}
	killed.Wait()
}

// together runs all at once; the first error stops the others.
func (c *cluster) together(ctx context.Context, work ...func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var done sync.WaitGroup
	for _, f := range work {
		done.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	done.Wait()
	return context.Cause(ctx)
}

func (c *cluster) takeOwnImages() error {
	archives, err := filepath.Glob(filepath.Join(c.built.folder, "images", "*.tar"))
	if err != nil {
		return err
	}
	for _, file := range archives {
		if err := c.takeImage(file); err != nil {
			return err
		}
	}
	return nil
}

// takeImage copies an archive to where the nodes see it, under a name that no other one has.
func (c *cluster) takeImage(file string) error {
	source, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("load an image: %w", err)
	}
	defer source.Close()
	folder := filepath.Join(c.folder, "images")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	c.loaded++
	target, err := os.Create(filepath.Join(folder, fmt.Sprintf("%03d-%s", c.loaded, filepath.Base(file))))
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		target.Close()
		return fmt.Errorf("copy %s: %w", file, err)
	}
	return target.Close()
}

// load imports an archive on every node that has power; the others do it when they are started.
func (c *cluster) load(ctx context.Context, file string) error {
	if err := c.takeImage(file); err != nil {
		return err
	}
	var importing []func(context.Context) error
	for _, n := range c.nodes {
		if n.machine != nil {
			importing = append(importing, func(ctx context.Context) error { return c.importImages(ctx, n) })
		}
	}
	return c.together(ctx, importing...)
}

// change stops or starts the part that `what` names.
func (c *cluster) change(ctx context.Context, verb, what string) error {
	if verb != "stop" && verb != "start" {
		return fmt.Errorf("%q is neither stop nor start", verb)
	}
	stop := verb == "stop"
	if isControlPart(what) {
		if stop {
			return c.stopControlPart(ctx, what)
		}
		return c.startControlPart(ctx, what)
	}
	name, part, _ := strings.Cut(what, "/")
	position := slices.IndexFunc(c.nodes, func(n *node) bool { return n.name == name })
	if position < 0 {
		return c.unknown(what)
	}
	n := c.nodes[position]
	if part != "" && n.machine == nil {
		return fmt.Errorf("%s has no power; start it first", n.name)
	}
	switch {
	case part == "" && stop:
		return c.cutPower(ctx, n)
	case part == "":
		return c.restorePower(ctx, n)
	case stop && (part == kubelet || part == kubeProxy):
		return n.machine.stop(ctx, part)
	case part == kubelet:
		return c.startKubelet(ctx, n)
	case part == kubeProxy:
		return c.startKubeProxy(ctx, n)
	}
	return c.unknown(what)
}

func (c *cluster) unknown(what string) error {
	names := slices.Clone(controlParts)
	for _, n := range c.nodes {
		names = append(names, n.name, n.name+"/"+kubelet, n.name+"/"+kubeProxy)
	}
	return errors.New("no part " + what + "; there are " + strings.Join(names, ", "))
}
