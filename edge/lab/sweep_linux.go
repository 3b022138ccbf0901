package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"crossbill/domain"
)

// recordDir holds one directory per lab, with the record of who owns it, written before anything else is made: so
// whatever is left of a lab that was killed can be found from it.
const recordDir = "/run/crossbill-lab"

// pinRoot is where the labs' PoPs keep their pins; see datapath.Options.
const pinRoot = "/sys/fs/bpf/crossbill"

// managementRange is the range the management links take their /30s from: RFC 2544 section C.2.2 sets it aside for
// tests of devices, so that it meets no real network.
var managementRange = netip.MustParsePrefix("198.18.0.0/15")

const maxSlots = 1 << (30 - 15)

// How long the processes of a lab that is torn down may take to end.
const killWait = 5 * time.Second

// record is what is known of a lab from outside the process that owns it.
type record struct {
	Name    string `json:"name"`
	Slot    int    `json:"slot"` // which /30 of managementRange
	PinDir  string `json:"pin_dir"`
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // the owner's start time in clock ticks since boot, as PIDs are used again
}

func runDir(name string) string { return filepath.Join(recordDir, name) }

func managementInterface(slot int) string { return "cblab" + strconv.Itoa(slot) }

func managementAddresses(slot int) (host, pop netip.Addr) {
	b := managementRange.Addr().As4()
	n := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	n += uint32(slot) * 4
	at := func(n uint32) netip.Addr {
		return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	return at(n + 1), at(n + 2)
}

// claim records the caller as the owner of a name and of a slot.
func claim(name string) (record, error) {
	const op = "lab.New"
	unlock, err := lockRecords()
	if err != nil {
		return record{}, domain.Errorf(domain.Unavailable, op, "%s cannot be locked: %w", recordDir, err)
	}
	defer unlock()
	all, err := records()
	if err != nil {
		return record{}, domain.Errorf(domain.Unavailable, op, "%s cannot be read: %w", recordDir, err)
	}
	taken := map[int]bool{}
	for _, r := range all {
		if r.Name == name && r.alive() {
			return record{}, domain.Errorf(domain.Conflict, op, "a lab named %s is live, owned by process %d", name, r.PID).
				WithHint("choose another name, or close that one")
		}
		if r.Name == name {
			if err := tearDown(r); err != nil {
				return record{}, domain.Errorf(domain.Unavailable, op, "the dead lab %s cannot be removed: %w", name, err)
			}
			continue
		}
		taken[r.Slot] = true
	}
	r := record{Name: name, Slot: -1, PinDir: filepath.Join(pinRoot, name), PID: os.Getpid(), Started: startTime(os.Getpid())}
	for slot := range maxSlots {
		if !taken[slot] && !addressInUse(slot) {
			r.Slot = slot
			break
		}
	}
	if r.Slot < 0 {
		return record{}, domain.Errorf(domain.Unavailable, op, "all %d management links are taken", maxSlots).
			WithHint("sweep dead labs")
	}
	return r, r.write()
}

// addressInUse reports whether something else on the machine has the slot's interface name or addresses.
func addressInUse(slot int) bool {
	if _, err := netlink.LinkByName(managementInterface(slot)); err == nil {
		return true
	}
	host, _ := managementAddresses(slot)
	wanted := netip.PrefixFrom(host, 30)
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return true // not known to be free
	}
	for _, a := range addresses {
		ip, _ := netip.AddrFromSlice(a.IP.To4())
		bits, _ := a.Mask.Size()
		if wanted.Overlaps(netip.PrefixFrom(ip, bits)) {
			return true
		}
	}
	return false
}

func (r record) write() error {
	data, err := json.Marshal(r)
	if err == nil {
		err = os.MkdirAll(runDir(r.Name), 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(runDir(r.Name), "owner.json"), data, 0o644)
	}
	if err != nil {
		return domain.Errorf(domain.Unavailable, "lab.New", "the lab cannot be recorded: %w", err)
	}
	return nil
}

// alive reports whether the process that owns the lab still runs.
func (r record) alive() bool { return r.PID > 0 && startTime(r.PID) == r.Started && r.Started != 0 }

// startTime returns the start time of a process (field 22 of /proc/<pid>/stat, proc(5)), 0 if there is none or only
// its zombie.
func startTime(pid int) uint64 {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	// The second field is the command in parentheses, and may contain anything.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" {
		return 0
	}
	started, _ := strconv.ParseUint(fields[19], 10, 64)
	return started
}

func lockRecords() (unlock func(), err error) {
	if err := os.MkdirAll(recordDir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(recordDir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

func records() ([]record, error) {
	entries, err := os.ReadDir(recordDir)
	if err != nil {
		return nil, err
	}
	var all []record
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(recordDir, e.Name(), "owner.json"))
		var r record
		if err != nil || json.Unmarshal(data, &r) != nil {
			// Killed while it was recorded, before it made anything; or removed meanwhile.
			r = record{Slot: -1}
		}
		r.Name = e.Name()
		if r.PinDir == "" {
			r.PinDir = filepath.Join(pinRoot, r.Name)
		}
		all = append(all, r)
	}
	return all, nil
}

// Sweep removes what dead labs whose name begins with prefix left behind: processes, namespaces, links, pins. Labs whose
// owner lives are left alone. It returns the names of those it removed.
func Sweep(prefix string) (names []string, err error) {
	if _, err := os.Stat(recordDir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	unlock, err := lockRecords()
	if err != nil {
		return nil, domain.Errorf(domain.Unavailable, "lab.Sweep", "%s cannot be locked: %w", recordDir, err)
	}
	defer unlock()
	all, err := records()
	if err != nil {
		return nil, domain.Errorf(domain.Unavailable, "lab.Sweep", "%s cannot be read: %w", recordDir, err)
	}
	var problems []error
	for _, r := range all {
		if !strings.HasPrefix(r.Name, prefix) || r.alive() {
			continue
		}
		if err := tearDown(r); err != nil {
			problems = append(problems, domain.Errorf(domain.Unavailable, "lab.Sweep", "the dead lab %s cannot be removed: %w", r.Name, err))
			continue
		}
		names = append(names, r.Name)
	}
	return names, errors.Join(problems...)
}

// tearDown removes everything of a lab. The record goes last, so that a failure is tried again by the next sweep.
func tearDown(r record) error {
	var problems []error
	namespaces, err := namespacesOf(r.Name)
	if err != nil {
		return err
	}
	problems = append(problems, killInside(namespaces))
	if r.Slot >= 0 {
		if link, err := netlink.LinkByName(managementInterface(r.Slot)); err == nil {
			problems = append(problems, netlink.LinkDel(link))
		}
	}
	for _, name := range namespaces {
		problems = append(problems, deleteNamespace(name))
	}
	if err := os.RemoveAll(r.PinDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		problems = append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	return os.RemoveAll(runDir(r.Name))
}

// namespacesOf lists a lab's namespaces, further routers included.
func namespacesOf(lab string) ([]string, error) {
	entries, err := os.ReadDir(namespaceDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), lab+"-")
		kind, _, _ := strings.Cut(rest, "-")
		if ok && (kind == "pop" || kind == "cust" || kind == "prov") {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// deleteNamespace removes the name, and the links at once: what holds the namespace itself, such as a socket, would
// keep them.
func deleteNamespace(name string) error {
	_ = inNamespace(filepath.Join(namespaceDir, name), func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, link := range links {
			if link.Type() == "veth" {
				_ = netlink.LinkDel(link) // its other end may have taken it along
			}
		}
		return nil
	})
	out, err := exec.Command("ip", "netns", "delete", name).CombinedOutput()
	if err != nil {
		if _, gone := os.Stat(filepath.Join(namespaceDir, name)); errors.Is(gone, fs.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("ip netns delete %s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// killInside ends the processes whose network namespace is one of these, and waits until they are gone.
func killInside(namespaces []string) error {
	inside := map[string]bool{}
	for _, name := range namespaces {
		var s syscall.Stat_t
		if err := syscall.Stat(filepath.Join(namespaceDir, name), &s); err == nil {
			inside[fmt.Sprintf("net:[%d]", s.Ino)] = true
		}
	}
	deadline := time.Now().Add(killWait)
	for len(inside) > 0 {
		pids := processesIn(inside)
		if len(pids) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not end", pids)
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

func processesIn(inside map[string]bool) []int {
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		namespace, err := os.Readlink(filepath.Join("/proc", e.Name(), "ns", "net"))
		if err == nil && inside[namespace] && startTime(pid) != 0 { // a zombie waits for its parent only
			pids = append(pids, pid)
		}
	}
	return pids
}
