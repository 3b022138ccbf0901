package datapath

import (
	"fmt"
	"testing"

	"crossbill/edge/lab"
)

// BenchmarkPacket says what one frame costs, by [MeasureCost], in nanoseconds.
func BenchmarkPacket(b *testing.B) {
	if err := lab.Supported(); err != nil {
		b.Skip(err)
	}
	for _, connections := range []int{1, 1000, MaxConnections} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			for b.Loop() {
				c, err := MeasureCost(connections, 100_000)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(c.Empty.Nanoseconds()), "ns/empty")
				b.ReportMetric(float64(c.In.Nanoseconds()), "ns/in")
				b.ReportMetric(float64(c.Look.Nanoseconds()), "ns/look")
				b.ReportMetric(float64(c.Out.Nanoseconds()), "ns/out")
			}
		})
	}
}
