package filetail

import (
	"fmt"
	"testing"
	"time"

	"sidecar/internal/record"
)

// BenchmarkManyFiles measures what the line asks of a source every few seconds, and what
// a look at the files takes, for 10,000 of them that are read to their ends.
func BenchmarkManyFiles(b *testing.B) {
	const files = 10_000
	f := follow(b, "", Options{Head: true}, "*.log")
	for i := range files {
		f.write(fmt.Sprintf("service-%05d.log", i), "2026-11-17T08:15:30Z up\n")
	}
	var e record.Entry
	for n := 0; n < files; {
		ok, err := f.Next(&e)
		if err != nil {
			b.Fatal(err)
		}
		if ok {
			n++
		}
	}
	position, err := f.Position(nil)
	if err != nil {
		b.Fatal(err)
	}
	measure := func(name string, do func() error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(position)), "position-bytes")
		})
	}
	measure("position", func() error { _, err := f.Position(nil); return err })
	measure("commit", func() error { return f.Commit(position) })
	measure("commit, a file removed", func() error {
		f.files[0].detached = true
		defer func() { f.files[0].detached = false }()
		return f.Commit(position)
	})
	measure("lag", func() error { f.Lag(f.now); return nil })
	measure("scan", func() error {
		f.now = f.now.Add(time.Minute)
		_, err := f.Next(&e)
		return err
	})
}
