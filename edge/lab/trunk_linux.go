package lab

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// trunk is the taggers on a side's link to the PoP. They end with the process: a lab does not outlive its owner.
type trunk struct {
	namespace string
	ifindex   int
	objects   taggerObjects

	mu    sync.Mutex
	links []link.Link
}

func newTrunk(namespace string) (*trunk, error) {
	t := &trunk{namespace: namespace}
	err := inNamespace(namespace, func() error {
		eth, err := netlink.LinkByName(RouterInterface)
		if err != nil {
			return err
		}
		t.ifindex = eth.Attrs().Index
		spec, err := loadTagger()
		if err != nil {
			return err
		}
		if err := spec.Variables["trunk"].Set(uint32(t.ifindex)); err != nil {
			return err
		}
		if err := spec.LoadAndAssign(&t.objects, nil); err != nil {
			return err
		}
		return errors.Join(
			t.attach(t.ifindex, t.objects.TrunkIngress, ebpf.AttachTCXIngress),
			t.attach(t.ifindex, t.objects.TrunkEgress, ebpf.AttachTCXEgress))
	})
	if err != nil {
		t.close()
		return nil, fmt.Errorf("tagger: %w", err)
	}
	return t, nil
}

// attach must run in the trunk's namespace.
func (t *trunk) attach(ifindex int, program *ebpf.Program, where ebpf.AttachType) error {
	made, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: program, Attach: where})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.links = append(t.links, made)
	return nil
}

// serviceShift is where the tagger has the service VLAN in the number of a VLAN.
const serviceShift = 16

// assign gives a VLAN, in a service VLAN or 0, to the main router (branch "") or to the router behind a branch.
func (t *trunk) assign(serviceVLAN, vlan int, branch string) error {
	tags := uint32(serviceVLAN<<serviceShift | vlan)
	return inNamespace(t.namespace, func() error {
		sender, receiver := t.ifindex, 0
		if branch != "" {
			end, err := netlink.LinkByName(branch)
			if err != nil {
				return err
			}
			sender, receiver = end.Attrs().Index, end.Attrs().Index
		}
		var old uint32
		if branch != "" && t.objects.Senders.Lookup(uint32(sender), &old) != nil { // it is new
			if err := t.attach(receiver, t.objects.BranchIngress, ebpf.AttachTCXIngress); err != nil {
				return err
			}
		}
		if t.objects.Senders.Lookup(uint32(sender), &old) == nil {
			_ = t.objects.Vlans.Delete(old) // the router had another VLAN before
		}
		return errors.Join(
			t.objects.Vlans.Put(tags, uint32(receiver)),
			t.objects.Senders.Put(uint32(sender), tags))
	})
}

func (t *trunk) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, l := range t.links {
		l.Close()
	}
	t.links = nil
	t.objects.Close()
}
