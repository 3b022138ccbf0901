package datapath_test

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"crossbill/edge/datapath"
)

// bucket is what the policer lets through at once after a pause, in bytes: BURST_NS and BURST_BYTES of bpf/datapath.c.
func bucket(mbps int) int64 { return max(int64(mbps)*1_000_000/8/5, 2*65536) }

// maxARP is how much of what comes in may be for the node itself, or of what goes out from it.
const maxARP = 1000

// TestPolicer sends far more than was ordered, in each direction. What crosses must be what was ordered, neither more nor
// less, what does not must be counted apart, and the meters must hold exactly the frames of the wire that did.
func TestPolicer(t *testing.T) {
	t.Parallel()
	p := newPoP(t)
	c := connection(11, 100, 200)
	c.BandwidthMbps = 4
	p.carry(c, "a", "z")
	for _, direction := range []struct {
		name     string
		from, to string
		in, out  int // sides
	}{{"to the provider", "a", "z", 0, 1}, {"to the customer", "z", "a", 1, 0}} {
		hosts := map[string]string{"a": hostA.String(), "z": hostZ.String()}
		for _, mbps := range []int{4, 12} { // changed in place
			c.BandwidthMbps = mbps
			must(t, p.Ensure(c))
			before, wireBefore := p.both(c.Tag), p.wire()
			begun := time.Now()
			p.flood(direction.from, hosts[direction.from], hosts[direction.to], 40, 2*time.Second)
			elapsed := time.Since(begun)
			after, wire := p.both(c.Tag), minus(p.wire(), wireBefore)
			in, out := direction.in, direction.out
			crossed, dropped := after[in].PacketsIn-before[in].PacketsIn, after[in].DroppedIn-before[in].DroppedIn
			if crossed+dropped != wire[in].PacketsIn {
				t.Errorf("%s: %d frames crossed and %d were dropped, of %d on the wire", direction.name, crossed, dropped, wire[in].PacketsIn)
			}
			if missed := after[out].DroppedOut - before[out].DroppedOut; missed != dropped {
				t.Errorf("%s: the other side says that %d frames were dropped, and %d were", direction.name, missed, dropped)
			}
			bytes, left := after[in].BytesIn-before[in].BytesIn, after[out].BytesOut-before[out].BytesOut
			if bytes+maxARP < left || bytes > left+maxARP || left != wire[out].BytesOut {
				t.Errorf("%s: %d bytes came in, %d went out, %d are on the wire", direction.name, bytes, left, wire[out].BytesOut)
			}
			if lost := after[in].DroppedBytesIn - before[in].DroppedBytesIn; bytes+lost != wire[in].BytesIn {
				t.Errorf("%s: %d bytes crossed and %d were dropped, of %d on the wire", direction.name, bytes, lost, wire[in].BytesIn)
			}
			most := int64(elapsed.Seconds()*float64(mbps)*1e6/8) + bucket(mbps)
			t.Logf("%s: %d Mbps ordered: %d bytes in %s, at most %d; %d frames dropped", direction.name, mbps, bytes, elapsed, most, dropped)
			if least := most * 9 / 10; int64(bytes) > most || dropped > 0 && int64(bytes) < least-bucket(mbps) {
				t.Errorf("%s: %d bytes crossed in %s at %d Mbps; the limit is %d", direction.name, bytes, elapsed, mbps, most)
			}
		}
	}
}

func (p *pop) both(tag int) [2]datapath.Counters {
	p.t.Helper()
	a, z, err := p.Counters(tag)
	must(p.t, err)
	return [2]datapath.Counters{a, z}
}

// asFlood makes the test's binary a sender of UDP datagrams: "from to bits-a-second duration".
const asFlood = "CROSSBILL_TEST_FLOOD"

// flood sends datagrams of 1 000 bytes at a rate. Nobody listens for them.
func (p *pop) flood(place, from, to string, mbps int, duration time.Duration) {
	p.t.Helper()
	command := p.Command(p.t.Context(), place, os.Args[0])
	command.Env = append(os.Environ(), asFlood+"="+fmt.Sprint(from, " ", to, " ", mbps, " ", duration.Milliseconds()))
	if out, err := command.CombinedOutput(); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
}

// flood is the process that sends.
func flood(from, to, mbps, milliseconds string) error {
	rate, err := strconv.Atoi(mbps)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(milliseconds + "ms")
	if err != nil {
		return err
	}
	socket, err := net.ListenPacket("udp", net.JoinHostPort(from, "0")) // not connected: it never hears that nobody listens
	if err != nil {
		return err
	}
	defer socket.Close()
	target, err := net.ResolveUDPAddr("udp", net.JoinHostPort(to, "9"))
	if err != nil {
		return err
	}
	payload := make([]byte, 1000)
	begun := time.Now()
	for sent := 0; time.Since(begun) < d; {
		if due := int(time.Since(begun).Seconds() * float64(rate) * 1e6 / 8 / 1000); sent >= due {
			time.Sleep(time.Millisecond)
			continue
		}
		if _, err := socket.WriteTo(payload, target); err != nil {
			return err
		}
		sent++
	}
	return nil
}
