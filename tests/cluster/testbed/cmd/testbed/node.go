package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// The programs of a node, by the names that `ctl` takes.
const (
	kubelet    = "kubelet"
	kubeProxy  = "kube-proxy"
	containerd = "containerd"
)

type node struct {
	name    string
	index   int
	machine *machine // nil while the node has no power
	cable   string
	starts  int
	images  map[string]bool // what containerd has on disk: it outlives a power cut
}

// powerNode brings a node up to a running container runtime with all images. It needs no API server.
func (c *cluster) powerNode(ctx context.Context, n *node) (err error) {
	if err := makeCgroup(c.slot.nodeCgroup(n.name)); err != nil {
		return err
	}
	if n.machine, err = newMachine(ctx, n.name, c.folder, c.built); err != nil {
		return err
	}
	if err := c.linkNetwork(n); err != nil {
		return err
	}
	if err := c.connectNode(ctx, n); err != nil {
		return err
	}
	if err := c.configureNode(n); err != nil {
		return err
	}
	if _, err := n.machine.run(ctx, "", "install", "-D", n.inside("network.conflist"), "/etc/cni/net.d/10-testbed.conflist"); err != nil {
		return err
	}
	err = n.machine.start(ctx, program{Name: containerd, Arguments: []string{"containerd", "--config", n.inside("containerd.toml")}})
	if err != nil {
		return err
	}
	err = await(ctx, "containerd on "+n.name, func(ctx context.Context) error {
		_, err := n.machine.run(ctx, "", "ctr", "--connect-timeout=1s", "version")
		return err
	})
	if err != nil {
		return err
	}
	return c.importImages(ctx, n)
}

// linkNetwork makes the node's namespace known by a path that stays the same when the node restarts.
// A link, not a mount: it needs no removal from the mount table of this machine.
func (c *cluster) linkNetwork(n *node) error {
	path := c.networkPath(n)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.Symlink(n.machine.network(), path)
}

func (c *cluster) networkPath(n *node) string { return filepath.Join(c.folder, "netns", n.name) }

// inside is where the node finds a file of its folder.
func (n *node) inside(file string) string { return filepath.Join(insideRun, n.name, file) }

func (c *cluster) configureNode(n *node) error {
	values := map[string]any{
		"Address": c.slot.nodeAddress(n.index),
		"CNI":     insideBuild + "/debian/usr/lib/cni",
		"Cgroup":  c.slot.nodeCgroup(n.name),
		"DNS":     c.slot.dnsServiceAddress(),
		"Pause":   pauseImage,
		"Pods":    c.slot.nodePods(n.index),
		"Run":     insideRun,
	}
	for _, name := range []string{"containerd.toml", "kubelet.yaml", "network.conflist"} {
		content, err := render(name, values)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(c.folder, n.name, name), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// startNodePrograms starts what needs the API server.
func (c *cluster) startNodePrograms(ctx context.Context, n *node) error {
	return c.together(ctx,
		func(ctx context.Context) error { return c.startKubelet(ctx, n) },
		func(ctx context.Context) error { return c.startKubeProxy(ctx, n) })
}

func (c *cluster) startKubelet(ctx context.Context, n *node) error {
	began := time.Now()
	err := n.machine.start(ctx, program{Name: kubelet, Arguments: []string{"kubelet",
		"--config=" + n.inside("kubelet.yaml"),
		"--kubeconfig=" + insideRun + "/" + n.name + ".kubeconfig",
		"--hostname-override=" + n.name,
		"--node-ip=" + c.slot.nodeAddress(n.index).String(),
	}})
	if err != nil {
		return err
	}
	return await(ctx, "the kubelet of "+n.name, func(ctx context.Context) error {
		return c.api.heard(ctx, n.name, began)
	})
}

// startKubeProxy waits until the rules for all Services are in place: a ready node says nothing
// about that.
func (c *cluster) startKubeProxy(ctx context.Context, n *node) error {
	err := n.machine.start(ctx, program{Name: kubeProxy, Arguments: []string{"kube-proxy",
		"--kubeconfig=" + insideRun + "/kube-proxy.kubeconfig",
		"--hostname-override=" + n.name,
		"--proxy-mode=" + c.proxyMode,
		"--cluster-cidr=" + c.slot.podNetwork().String(),
		fmt.Sprintf("--healthz-bind-address=0.0.0.0:%d", proxyHealth),
		"--oom-score-adj=0",
		// 0 is "leave as it is": the size of the conntrack table is the whole machine's.
		"--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-established=0",
		"--conntrack-tcp-timeout-close-wait=0",
	}})
	if err != nil {
		return err
	}
	// Not /healthz, which also says no when the Node object is about to go.
	address := fmt.Sprintf("http://%s:%d/livez", c.slot.nodeAddress(n.index), proxyHealth)
	return await(ctx, "kube-proxy on "+n.name, func(ctx context.Context) error { return synced(ctx, address) })
}

// cutPower kills a node as a power cut does: nothing of it says goodbye.
func (c *cluster) cutPower(ctx context.Context, n *node) error {
	if n.machine == nil {
		return fmt.Errorf("%s has no power already", n.name)
	}
	n.machine.kill()
	n.machine = nil
	if err := os.Remove(c.networkPath(n)); err != nil && !os.IsNotExist(err) {
		return err
	}
	c.disconnectNode(ctx, n)
	return removeCgroup(c.slot.nodeCgroup(n.name))
}

func (c *cluster) restorePower(ctx context.Context, n *node) error {
	if n.machine != nil {
		return fmt.Errorf("%s runs already", n.name)
	}
	if err := c.powerNode(ctx, n); err != nil {
		return err
	}
	return c.startNodePrograms(ctx, n)
}

// importImages loads the archives of the run that the node's containerd does not have yet.
func (c *cluster) importImages(ctx context.Context, n *node) error {
	files, err := os.ReadDir(filepath.Join(c.folder, "images"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if n.images[file.Name()] {
			continue
		}
		_, err := n.machine.run(ctx, "", "ctr", "--namespace=k8s.io", "images", "import", filepath.Join(insideRun, "images", file.Name()))
		if err != nil {
			return err
		}
		n.images[file.Name()] = true
	}
	return nil
}
