package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"crossbill/domain"
)

// programs that a lab runs, and the Debian packages they come from.
var programs = map[string]string{
	"bird": "bird2", "birdc": "bird2", "iperf3": "iperf3", "ping": "iputils-ping", "ip": "iproute2",
	"ethtool": "ethtool", "nsenter": "util-linux",
}

// Supported returns nil if a lab can run here, else an Unavailable error that lists everything that is missing, with
// the command that installs it. It tries the kernel's features in a namespace of its own and leaves nothing behind.
func Supported() error { return supported() }

var supported = sync.OnceValue(func() error {
	var missing, packages []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root (CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_BPF)")
	} else if err := tryKernel(); err != nil {
		missing = append(missing, err.Error())
	}
	for program, pkg := range programs {
		if _, err := exec.LookPath(program); err != nil {
			missing = append(missing, program)
			packages = append(packages, pkg)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	e := domain.Errorf(domain.Unavailable, "lab.Supported", "the lab cannot run here, missing: %s", strings.Join(missing, ", "))
	if len(packages) > 0 {
		return e.WithHint("apt-get install -y %s", strings.Join(packages, " "))
	}
	return e.WithHint("run as root on Linux 6.6 or later with tcx, veth and network namespaces")
})

// tryKernel tries namespaces, veth, tcx and bpffs.
func tryKernel() error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread and its namespace end with this goroutine
		result <- tryInNewNamespace()
	}()
	return <-result
}

func tryInNewNamespace() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("network namespaces (%w)", err)
	}
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "try1"}
	veth.Name = "try0"
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("veth (%w)", err)
	}
	if err := tryTCX(veth.Index); err != nil {
		return fmt.Errorf("eBPF at tcx (%w)", err)
	}
	types, err := os.ReadFile("/proc/filesystems")
	if err == nil && !strings.Contains(string(types), "\tbpf\n") {
		err = errors.New("not in /proc/filesystems")
	}
	if err != nil {
		return fmt.Errorf("bpffs (%w)", err)
	}
	return nil
}

func tryTCX(ifindex int) error {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
	})
	if err != nil {
		return err
	}
	defer program.Close()
	attached, err := link.AttachTCX(link.TCXOptions{Interface: ifindex, Program: program, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return err
	}
	return attached.Close()
}
