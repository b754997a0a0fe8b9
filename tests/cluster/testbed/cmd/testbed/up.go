package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What `up` prints. Tests read it.
type description struct {
	Dir         string            `json:"dir"`
	Kubeconfig  string            `json:"kubeconfig"`
	Kubectl     string            `json:"kubectl"`
	Server      string            `json:"server"`
	ServiceCIDR string            `json:"serviceCIDR"`
	PodCIDR     string            `json:"podCIDR"`
	AuditLog    string            `json:"auditLog"`
	Nodes       []nodeDescription `json:"nodes"`
}

type nodeDescription struct {
	Name    string `json:"name"`
	Netns   string `json:"netns"`
	Address string `json:"address"`
	PodCIDR string `json:"podCIDR"`
}

func upCommand(ctx context.Context, arguments []string) error {
	options := newFlags("up")
	nodes := options.Int("nodes", 3, "how many nodes")
	proxyMode := options.String("proxy-mode", "iptables", "kube-proxy's mode, iptables or nftables")
	folder := options.String("dir", "", "the run's `DIR`, empty or not there yet (one in the cache)")
	untilClosed := options.Bool("until-stdin-closes", false, "end when standard input ends, as when a test is killed")
	keepLogs := options.Bool("keep-logs", false, "leave logs and audit log in DIR")
	if err := parse(options, arguments, 0, 0); err != nil {
		return err
	}
	if *nodes < 0 || *nodes > mostNodes {
		return fmt.Errorf("up: --nodes %d: at most %d", *nodes, mostNodes)
	}
	if *proxyMode != "iptables" && *proxyMode != "nftables" {
		return fmt.Errorf("up: --proxy-mode %s: give iptables or nftables", *proxyMode)
	}
	if *keepLogs && *folder == "" {
		return errors.New("up: --keep-logs needs --dir: the folder in the cache is used again")
	}
	if err := checkMachine(*proxyMode); err != nil {
		return err
	}
	if *untilClosed {
		ctx = untilInputCloses(ctx)
	}
	b, err := build(ctx)
	if err != nil {
		return err
	}
	return supervise(ctx, b, *nodes, *proxyMode, *folder, *keepLogs)
}

// supervise owns a run from the first thing that it makes to the last that it removes.
func supervise(ctx context.Context, b built, nodes int, proxyMode, folder string, keepLogs bool) (err error) {
	began := time.Now()
	s, err := takeFreeSlot()
	if err != nil {
		return err
	}
	if folder, err = runFolder(s, folder); err != nil {
		s.release()
		return err
	}
	if err := s.makeRunFolder(folder); err != nil {
		s.release()
		return err
	}
	c := &cluster{slot: s, folder: folder, built: b, proxyMode: proxyMode}
	defer func() {
		// Not in the hands of ctx: this must be done even when that is over.
		c.end()
		if keepLogs {
			err = errors.Join(err, os.Remove(filepath.Join(folder, marker)))
			err = errors.Join(err, removeAllBut(folder, "logs", "audit.log"))
		}
		if failed := s.clean(); failed != nil {
			err = errors.Join(err, fmt.Errorf("%w; `testbed sweep` tries again", failed))
			return
		}
		s.release()
	}()
	for index := 1; index <= nodes; index++ {
		c.nodes = append(c.nodes, &node{name: nodeName(index), index: index, images: map[string]bool{}})
	}
	if err := os.MkdirAll(filepath.Join(folder, "logs"), 0o755); err != nil {
		return err
	}
	if err := c.start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // it was told to end
		}
		showLogs(filepath.Join(folder, "logs"))
		return err
	}
	serving, err := c.listen(ctx)
	if err != nil {
		return err
	}
	defer serving()
	progress("%d nodes in %s", nodes, time.Since(began).Round(100*time.Millisecond))
	if err := json.NewEncoder(os.Stdout).Encode(c.describe()); err != nil {
		return fmt.Errorf("print the description: %w", err)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-c.control.dead:
		return errors.New("the control machine was killed from outside; taking everything down")
	}
}

func (c *cluster) describe() description {
	d := description{
		Dir:         c.folder,
		Kubeconfig:  filepath.Join(c.folder, "admin.kubeconfig"),
		Kubectl:     c.built.program("kubectl"),
		Server:      c.slot.server(),
		ServiceCIDR: c.slot.serviceNetwork().String(),
		PodCIDR:     c.slot.podNetwork().String(),
		AuditLog:    filepath.Join(c.folder, "audit.log"),
	}
	for _, n := range c.nodes {
		d.Nodes = append(d.Nodes, nodeDescription{
			Name:    n.name,
			Netns:   c.networkPath(n),
			Address: c.slot.nodeAddress(n.index).String(),
			PodCIDR: c.slot.nodePods(n.index).String(),
		})
	}
	return d
}

func checkMachine(proxyMode string) error {
	if os.Geteuid() != 0 {
		return errors.New("up: namespaces, cgroups and mounts need root; run as root")
	}
	programs := map[string]string{"ip": "iproute2", "iptables": "iptables", "mount": "mount"}
	if proxyMode == "nftables" {
		programs["nft"] = "nftables"
	}
	return need(programs)
}

func runFolder(s *slot, given string) (string, error) {
	if given == "" {
		cache, err := cacheFolder()
		if err != nil {
			return "", err
		}
		// Slots are the machine's, cache folders the user's: no other run of ours has this one.
		given = filepath.Join(cache, fmt.Sprintf("run-%d", s.number))
	}
	folder, err := filepath.Abs(given)
	if err != nil {
		return "", err
	}
	// In mount options these have a meaning; a socket's path has some 100 bytes.
	if strings.ContainsAny(folder, ",:\\ ") || len(folder) > 80 {
		return "", fmt.Errorf("up: --dir %s: give a path of at most 80 bytes without comma, colon, blank or backslash", folder)
	}
	return folder, nil
}

func untilInputCloses(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel(errors.New("standard input was closed"))
	}()
	return ctx
}

// removeAllBut removes what is in a folder, except the given names.
func removeAllBut(folder string, kept ...string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	var failed []error
next:
	for _, entry := range entries {
		for _, name := range kept {
			if entry.Name() == name {
				continue next
			}
		}
		failed = append(failed, os.RemoveAll(filepath.Join(folder, entry.Name())))
	}
	return errors.Join(failed...)
}

// showLogs prints the end of each log: the folder is removed with the failed run.
func showLogs(folder string) {
	const lines = 12
	_ = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil || len(content) == 0 {
			return nil
		}
		all := strings.Split(strings.TrimSpace(string(content)), "\n")
		progress("the end of %s:\n%s", entry.Name(), strings.Join(all[max(0, len(all)-lines):], "\n"))
		return nil
	})
}
