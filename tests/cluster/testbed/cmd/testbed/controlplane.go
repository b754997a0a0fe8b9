package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// The parts of the control plane, by the names that `ctl` takes.
const (
	apiServer         = "apiserver"
	controllerManager = "controller-manager"
	scheduler         = "scheduler"
)

var controlParts = []string{apiServer, controllerManager, scheduler}

func (c *cluster) startControlPlane(ctx context.Context) error {
	policy, err := render("audit.yaml", nil)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(c.folder, "audit-policy.yaml"), policy, 0o644); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(c.folder, "etcd"), 0o700); err != nil {
		return err
	}
	if err := c.startControlPart(ctx, apiServer); err != nil {
		return err
	}
	// The controller manager gives up when the API server does not answer, and the nodes' first
	// reports must find the roles that allow them.
	return c.together(ctx,
		func(ctx context.Context) error { return c.startControlPart(ctx, controllerManager) },
		func(ctx context.Context) error { return c.startControlPart(ctx, scheduler) },
		c.announceNodes)
}

func (c *cluster) startControlPart(ctx context.Context, name string) error {
	var part program
	var ready func(context.Context) error
	switch name {
	case apiServer:
		part, ready = c.apiServerProgram(), c.api.ready
	case controllerManager:
		part, ready = c.controllerManagerProgram(), c.controlHealth(10257)
	case scheduler:
		part, ready = c.schedulerProgram(), c.controlHealth(10259)
	}
	if err := c.control.start(ctx, part); err != nil {
		return err
	}
	return await(ctx, "the "+name, ready)
}

func (c *cluster) controlHealth(port int) func(context.Context) error {
	address := fmt.Sprintf("https://%s:%d/healthz", c.slot.controlAddress(), port)
	return func(ctx context.Context) error {
		_, err := healthy(ctx, address)
		return err
	}
}

func (c *cluster) apiServerProgram() program {
	const keys = insideRun + "/pki"
	// The machine has ports of its own: the usual ones are free.
	const etcdClient, etcdPeer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
	return program{
		Name: apiServer,
		Environment: []string{
			"ETCD_DATA=" + insideRun + "/etcd", "ETCD_CLIENT=" + etcdClient, "ETCD_PEER=" + etcdPeer,
		},
		Arguments: []string{"kube-apiserver",
			"--etcd-servers=" + etcdClient,
			fmt.Sprintf("--secure-port=%d", clusterPort),
			"--advertise-address=" + c.slot.controlAddress().String(),
			"--cert-dir=" + keys,
			"--tls-cert-file=" + keys + "/apiserver.crt",
			"--tls-private-key-file=" + keys + "/apiserver.key",
			"--client-ca-file=" + keys + "/ca.crt",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-signing-key-file=" + keys + "/tokens.key",
			"--service-account-key-file=" + keys + "/tokens.pub",
			"--service-cluster-ip-range=" + c.slot.serviceNetwork().String(),
			"--authorization-mode=Node,RBAC",
			"--enable-admission-plugins=NodeRestriction",
			"--allow-privileged=true",
			"--kubelet-client-certificate=" + keys + "/kubelet-client.crt",
			"--kubelet-client-key=" + keys + "/kubelet-client.key",
			"--kubelet-preferred-address-types=InternalIP",
			// The control machine has no kube-proxy: webhooks behind a Service are reached by endpoint.
			"--enable-aggregator-routing=true",
			"--audit-policy-file=" + insideRun + "/audit-policy.yaml",
			"--audit-log-path=" + insideRun + "/audit.log",
		},
	}
}

func (c *cluster) controllerManagerProgram() program {
	return program{
		Name: controllerManager,
		Arguments: append(c.controllerArguments("kube-controller-manager", 10257),
			"--service-account-private-key-file="+insideRun+"/pki/tokens.key",
			"--root-ca-file="+insideRun+"/pki/ca.crt",
			"--use-service-account-credentials=true",
			// Some leases of a node, which are 8 s long, and time for a busy machine.
			"--node-monitor-period=2s",
			"--node-monitor-grace-period=16s"),
	}
}

func (c *cluster) schedulerProgram() program {
	return program{Name: scheduler, Arguments: c.controllerArguments("kube-scheduler", 10259)}
}

// controllerArguments are those that both have. There is one of each: electing a leader would only
// make a killed one wait for its own lease.
func (c *cluster) controllerArguments(name string, port int) []string {
	kubeconfig := insideRun + "/" + name + ".kubeconfig"
	return []string{name,
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--leader-elect=false",
		fmt.Sprintf("--secure-port=%d", port),
		"--cert-dir=" + insideRun + "/pki/" + name,
	}
}

// announceNodes makes the Node objects, so that they say which addresses their pods have. Each
// kubelet finds its own and fills in the rest.
func (c *cluster) announceNodes(ctx context.Context) error {
	for _, n := range c.nodes {
		object, err := render("node.json", map[string]any{"Name": n.name, "Pods": c.slot.nodePods(n.index)})
		if err != nil {
			return err
		}
		if err := c.api.do(ctx, "POST", "/api/v1/nodes", string(object), nil); err != nil {
			return err
		}
	}
	return nil
}

// stopControlPart kills. The API server has no other quick end, and etcd's data outlives it.
func (c *cluster) stopControlPart(ctx context.Context, name string) error {
	return c.control.stop(ctx, name)
}

func isControlPart(name string) bool { return slices.Contains(controlParts, name) }

// usable waits for what a test needs beyond ready nodes: pods cannot be made before their default
// ServiceAccount.
func (c *cluster) usable(ctx context.Context) error {
	return await(ctx, "the default ServiceAccount", func(ctx context.Context) error {
		return c.api.do(ctx, "GET", "/api/v1/namespaces/default/serviceaccounts/default", "", nil)
	})
}
