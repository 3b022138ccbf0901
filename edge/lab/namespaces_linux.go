package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const namespaceDir = "/run/netns" // where iproute2 looks

// makeNamespace adds a named namespace, silent on IPv6, with its loopback up.
func makeNamespace(ctx context.Context, name string) error {
	if out, err := exec.CommandContext(ctx, "ip", "netns", "add", name).CombinedOutput(); err != nil {
		return fmt.Errorf("ip netns add %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return inNamespace(namespaceDir+"/"+name, func() error {
		for _, scope := range []string{"all", "default"} { // before there is an interface to speak
			err := os.WriteFile("/proc/sys/net/ipv6/conf/"+scope+"/disable_ipv6", []byte("1"), 0)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return linkUp("lo")
	})
}

// inNamespace runs f on a thread that is in the namespace.
func inNamespace(path string, f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	there, err := netns.GetFromPath(path)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("namespace %s: %w", path, err)
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("namespace %s: %w", path, err)
	}
	defer func() {
		if netns.Set(home) == nil { // else the thread ends with its goroutine
			runtime.UnlockOSThread()
		}
	}()
	return f()
}

// linkNamespaces makes a veth pair between two namespaces; an empty path is the caller's.
func linkNamespaces(pathA, nameA, pathB, nameB string) error {
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: nameB}
	veth.Name = nameA
	for _, end := range []struct {
		path  string
		field *any
	}{{pathA, &veth.Namespace}, {pathB, &veth.PeerNamespace}} {
		path := cmp.Or(end.path, "/proc/thread-self/ns/net")
		ns, err := netns.GetFromPath(path)
		if err != nil {
			return fmt.Errorf("namespace %s: %w", path, err)
		}
		defer ns.Close()
		*end.field = netlink.NsFd(int(ns))
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("link %s to %s: %w", nameA, nameB, err)
	}
	return nil
}

// mountBPFFS mounts bpffs where it is not, so that pins are in the machine's and not in the mount namespace of whichever
// process comes first.
func mountBPFFS() error {
	const root = "/sys/fs/bpf"
	var s unix.Statfs_t
	if err := unix.Statfs(root, &s); err == nil && s.Type == unix.BPF_FS_MAGIC {
		return nil
	}
	if err := unix.Mount("bpf", root, "bpf", 0, "mode=0700"); err != nil {
		return fmt.Errorf("mount bpffs on %s: %w", root, err)
	}
	return nil
}

// linkUp sets an interface of the current namespace up.
func linkUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return netlink.LinkSetUp(link)
}

func setMTU(name string, mtu int) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return netlink.LinkSetMTU(link, mtu)
}

// configureAddress sets an interface of the current namespace up, with the address. IPv6 is let speak where it has one.
func configureAddress(name string, address netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if address.Addr().Is6() {
		for _, setting := range []struct{ key, value string }{{"accept_dad", "0"}, {"accept_ra", "0"}, {"disable_ipv6", "0"}} {
			if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/"+setting.key, []byte(setting.value), 0); err != nil {
				return fmt.Errorf("IPv6 of %s: %w", name, err)
			}
		}
	}
	ip := &net.IPNet{IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), address.Addr().BitLen())}
	wanted := &netlink.Addr{IPNet: ip}
	if address.Addr().Is6() {
		wanted.Flags = unix.IFA_F_NODAD // or it may not be used for a moment
	}
	if err := netlink.AddrReplace(link, wanted); err != nil {
		return fmt.Errorf("address %s of %s: %w", address, name, err)
	}
	return netlink.LinkSetUp(link)
}
