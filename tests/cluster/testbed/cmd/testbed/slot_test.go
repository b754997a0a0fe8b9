package main

import (
	"net/netip"
	"testing"
)

func TestNetworksOfARunDoNotOverlap(t *testing.T) {
	s := &slot{number: slots - 1}
	networks := []netip.Prefix{s.nodeNetwork(), s.podNetwork(), s.serviceNetwork(), s.linkNetwork()}
	for i, network := range networks {
		if !s.whole().Contains(network.Addr()) {
			t.Errorf("%s is not in %s", network, s.whole())
		}
		if overlaps(networks[:i], network) {
			t.Errorf("%s overlaps one of %s", network, networks[:i])
		}
	}
	for index := 1; index <= mostNodes; index++ {
		if !s.podNetwork().Overlaps(s.nodePods(index)) || !s.nodeNetwork().Contains(s.nodeAddress(index)) {
			t.Errorf("node %d is outside of its network", index)
		}
	}
	other := &slot{number: 0}
	if other.whole().Overlaps(s.whole()) {
		t.Error("two slots share addresses")
	}
}
