package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
)

// The network of a run:
//
//	this machine --- control (API server, bridge "nodes") --- node1, node2, ...
//
// This machine gets one link and one route. Both vanish with the control machine's namespace, and
// that with its last process: nothing has to be removed when a run is killed.

// machineNetworks lists what this machine already routes somewhere else than to its default.
func machineNetworks() ([]netip.Prefix, error) {
	output, err := exec.Command("ip", "-json", "-4", "route", "show", "table", "all").Output()
	if err != nil {
		return nil, fmt.Errorf("ip route show: %w; install iproute2", err)
	}
	var routes []struct{ Dst string }
	if err := json.Unmarshal(output, &routes); err != nil {
		return nil, fmt.Errorf("read what ip route shows: %w", err)
	}
	var found []netip.Prefix
	for _, route := range routes {
		network, err := netip.ParsePrefix(route.Dst)
		if err != nil {
			address, err := netip.ParseAddr(route.Dst)
			if err != nil {
				continue // "default"
			}
			network = netip.PrefixFrom(address, 32)
		}
		if network.Bits() > 0 {
			found = append(found, network)
		}
	}
	return found, nil
}

// connectControl puts up the link between this machine and the control machine, the bridge behind
// it and the routes to every node's pods, without which a pod's request to the API server's Service
// address gets no reply.
func (c *cluster) connectControl(ctx context.Context) error {
	s := c.slot
	err := ipBatch(ctx,
		fmt.Sprintf("link add %s type veth peer name host netns %d", s.link(), c.control.pid()),
		fmt.Sprintf("address add %s/30 dev %s", s.hostLinkAddress(), s.link()),
		fmt.Sprintf("link set %s up", s.link()),
		fmt.Sprintf("route add %s via %s", s.whole(), s.controlLinkAddress()))
	if err != nil {
		return err
	}
	lines := []string{
		"link set lo up",
		fmt.Sprintf("address add %s/30 dev host", s.controlLinkAddress()),
		"link set host up",
		fmt.Sprintf("route add default via %s", s.hostLinkAddress()),
		// A bridge takes the lowest address of its ports unless it has one of its own: neighbours would
		// have to learn it again with each node that comes or goes.
		fmt.Sprintf("link add nodes address %s type bridge", s.macAddress(0, 0)),
		fmt.Sprintf("address add %s/24 dev nodes", s.controlAddress()),
		"link set nodes up",
	}
	for _, n := range c.nodes {
		lines = append(lines, fmt.Sprintf("route add %s via %s", s.nodePods(n.index), s.nodeAddress(n.index)))
	}
	return c.control.ip(ctx, lines...)
}

// connectNode plugs a node into the bridge and tells it the way to the other nodes' pods.
func (c *cluster) connectNode(ctx context.Context, n *node) error {
	s := c.slot
	// The kernel removes a dead node's namespace when it finds time: a node that comes back needs
	// another name for its cable, but the same address, which its neighbours still know.
	n.starts++
	n.cable = fmt.Sprintf("%s-%d", n.name, n.starts)
	err := ipBatch(ctx, fmt.Sprintf("link add %s netns %d type veth peer name eth0 address %s netns %d",
		n.cable, c.control.pid(), s.macAddress(n.index, 1), n.machine.pid()))
	if err != nil {
		return err
	}
	if err := c.control.ip(ctx, fmt.Sprintf("link set %s master nodes up", n.cable)); err != nil {
		return err
	}
	lines := []string{
		"link set lo up",
		fmt.Sprintf("address add %s/24 dev eth0", s.nodeAddress(n.index)),
		"link set eth0 up",
		fmt.Sprintf("route add default via %s", s.controlAddress()),
	}
	for _, other := range c.nodes {
		if other != n {
			lines = append(lines, fmt.Sprintf("route add %s via %s", s.nodePods(other.index), s.nodeAddress(other.index)))
		}
	}
	return n.machine.ip(ctx, lines...)
}

// disconnectNode pulls the cable: until the kernel has removed the namespace, a dead node's network
// would go on to answer.
func (c *cluster) disconnectNode(ctx context.Context, n *node) {
	if n.cable != "" {
		// An error means that the cable is gone already, with the namespace at its other end.
		_ = c.control.ip(ctx, "link delete "+n.cable)
		n.cable = ""
	}
}

func ipBatch(ctx context.Context, lines ...string) error {
	command := exec.CommandContext(ctx, "ip", "-batch", "-")
	command.Stdin = strings.NewReader(strings.Join(lines, "\n"))
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s (of: %s)", err, strings.TrimSpace(string(output)), strings.Join(lines, "; "))
	}
	return nil
}

func (m *machine) ip(ctx context.Context, lines ...string) error {
	_, err := m.run(ctx, strings.Join(lines, "\n"), "ip", "-batch", "-")
	return err
}

// removeLink removes this machine's end of the link, if it is still there.
func (s *slot) removeLink() error {
	if _, err := os.Stat("/sys/class/net/" + s.link()); err != nil {
		return nil
	}
	output, err := exec.Command("ip", "link", "delete", s.link()).CombinedOutput()
	if err != nil && !strings.Contains(string(output), "Cannot find device") {
		return fmt.Errorf("remove the link %s: %w: %s", s.link(), err, strings.TrimSpace(string(output)))
	}
	return nil
}
