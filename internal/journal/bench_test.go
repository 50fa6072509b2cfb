package journal_test

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"sidecar/internal/journal"
	"sidecar/internal/journal/journaltest"
)

// machineText returns n entries as journald makes them of what services print:
// 22 fields, of which the times, the message and little else are new in each.
func machineText(n int) []byte {
	rnd := rand.New(rand.NewPCG(22, 1))
	words := []string{"order", "paid", "customer", "session", "cache", "miss", "queue", "retry", "timeout", "shipped", "refund", "token", "invalid", "upstream", "latency"}
	var b []byte
	for i := range n {
		unit, usec := rnd.IntN(12), baseUsec+2_000_000+uint64(i)*700
		b = appendStamp(b, usec)
		b = fmt.Appendf(b, "_MACHINE_ID=%s\n_HOSTNAME=web-01\n_RUNTIME_SCOPE=system\n_TRANSPORT=stdout\nPRIORITY=%d\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=svc%d\n", boot1, 3+rnd.IntN(4), unit)
		b = fmt.Appendf(b, "_UID=%d\n_GID=%d\n_PID=%d\n_COMM=node\n_EXE=/usr/bin/node\n_CMDLINE=/usr/bin/node --max-old-space-size=512 /srv/svc%d/server.js\n_CAP_EFFECTIVE=0\n", 1000+unit, 1000+unit, 700+unit, unit)
		b = fmt.Appendf(b, "_SYSTEMD_CGROUP=/system.slice/svc%d.service\n_SYSTEMD_UNIT=svc%d.service\n_SYSTEMD_SLICE=system.slice\n_SYSTEMD_INVOCATION_ID=%032x\n_STREAM_ID=%032x\n_SELINUX_CONTEXT=unconfined\n", unit, unit, unit*7919, unit*104729)
		b = fmt.Appendf(b, `MESSAGE=_jsonrc:{"level":"info","timestamp":"2026-09-21T14:%02d:%02d.%03dZ","service":"svc%d","requestId":"%016x%016x","durationMs":%d,"message":"`, i/60000%60, i/1000%60, i%1000, unit, rnd.Uint64(), rnd.Uint64(), rnd.IntN(5000))
		for range 8 + rnd.IntN(40) {
			b = append(append(b, words[rnd.IntN(len(words))]...), ' ')
		}
		b = append(b, "\"}\n\n"...)
	}
	return b
}

// cpu returns the CPU time of this process and of its children that have ended.
func cpu(tb testing.TB) time.Duration {
	sum := time.Duration(0)
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			tb.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

// BenchmarkRead reads a file of 50,000 entries of 22 fields, also as one of an
// unknown format, and has journalctl export the same file, in CPU seconds (user
// and system) per million entries.
func BenchmarkRead(b *testing.B) {
	const n = 50_000
	text := machineText(n)
	for _, v := range journaltest.Variants()[1:4] {
		dir := b.TempDir()
		path := filepath.Join(dir, "x.journal")
		journaltest.Write(b, path, v, text)
		for _, all := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/all=%t", v.Name, all), func(b *testing.B) {
				benchmarkRead(b, journal.Options{Places: []journal.Place{{Root: dir}}, AllFields: all}, n)
			})
		}
		b.Run(v.Name+"/fallback", func(b *testing.B) {
			o := journal.Options{Places: []journal.Place{{Root: dir}}, AllFields: true}
			o.Avoid(keyedFlag)
			benchmarkRead(b, o, n)
		})
		b.Run(v.Name+"/journalctl", func(b *testing.B) {
			spent := time.Duration(0)
			for b.Loop() {
				cmd := exec.Command("journalctl", "--file", path, "-o", "export", "--no-pager")
				if err := cmd.Run(); err != nil { // output to /dev/null
					b.Fatal(err)
				}
				spent += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
			}
			b.ReportMetric(spent.Seconds()/float64(b.N)/n*1e6, "CPU-s/M")
		})
	}
}

func benchmarkRead(b *testing.B, o journal.Options, n int) {
	var e journal.Entry
	bytes := 0
	b.ReportAllocs()
	start := cpu(b)
	for b.Loop() {
		r, err := journal.NewReader(o)
		if err != nil {
			b.Fatal(err)
		}
		count := 0
		for bytes = 0; r.Next(&e); count++ {
			bytes += len(e.Known(journal.Message))
		}
		if count != n {
			b.Fatalf("%d entries", count)
		}
		r.Close()
	}
	perEntry := (cpu(b) - start).Seconds() / float64(b.N) / float64(n)
	b.SetBytes(int64(bytes))
	b.ReportMetric(perEntry*1e6, "CPU-s/M")
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

func TestReadingDoesNotAllocate(t *testing.T) {
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	w := newTiny(1, true)
	for i := range 12_000 {
		message := fmt.Sprintf("MESSAGE=order %d %s", i, strings.Repeat("x", i%300))
		if i%5 == 0 { // journald compresses long values
			message = string(encoder.EncodeAll([]byte(message+strings.Repeat("and so on ", 100)), nil))
		}
		w.add(uint64(i), message, fmt.Sprintf("_PID=%d", i%50), "_SYSTEMD_UNIT=app.service", "_CMDLINE="+strings.Repeat("c", 1+i%40*100))
		if i%5 == 0 {
			w.b[w.data[message]+1] = 4
		}
	}
	writeFile(t, filepath.Join(dir, "x.journal"), w.b)
	r := openDir(t, dir, nil)
	var e journal.Entry
	read := func(n int) {
		for range n {
			if !r.Next(&e) || e.Damaged > 0 || len(e.Known(journal.Message)) < 7 {
				t.Fatalf("entry %d: %d damaged", e.Seqnum, e.Damaged)
			}
		}
	}
	read(5000) // fills the cache, grows the windows
	// The race detector makes the decoder's pools forget a few of their objects.
	if n := testing.AllocsPerRun(5, func() { read(1000) }); n > 8 {
		t.Errorf("%.0f allocations in 1000 entries", n)
	}
}

// TestMemoryStaysBounded reads values that are all shared and all different, as
// large as the cache takes them.
func TestMemoryStaysBounded(t *testing.T) {
	dir := t.TempDir()
	for id := range 3 {
		w := newTiny(byte(id+1), true)
		for i := range 4000 {
			value := fmt.Sprintf("V%d-%d=%s", id, i, strings.Repeat("v", 4000))
			w.add(uint64(2*i), value)
			w.add(uint64(2*i+1), value)
		}
		writeFile(t, filepath.Join(dir, fmt.Sprintf("%d.journal", id)), w.b)
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := openDir(t, dir, nil)
	var e journal.Entry
	entries := 0
	for ; r.Next(&e); entries++ {
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if held := int64(after.HeapAlloc) - int64(before.HeapAlloc); entries != 24_000 || held > 14<<20 {
		t.Errorf("%d bytes held after %d entries", held, entries)
	}
	runtime.KeepAlive(r)
}

// BenchmarkMerge reads two files whose entries alternate, as a machine's and a
// user's do, while many others wait with a later entry.
func BenchmarkMerge(b *testing.B) {
	for _, waiting := range []int{0, 200} {
		b.Run(fmt.Sprintf("waiting=%d", waiting), func(b *testing.B) {
			dir := b.TempDir()
			const n = 20_000
			for id := range 2 + waiting {
				w := newTiny(1, true)
				w.put64(24, uint64(id+1))
				w.put64(72, uint64(id+1))
				if id < 2 {
					for i := range n / 2 {
						w.add(uint64(2*i+id), fmt.Sprintf("MESSAGE=%d", i), "PRIORITY=6", "_SYSTEMD_UNIT=app.service")
					}
				} else {
					w.add(uint64(n+id), "MESSAGE=later")
				}
				writeFile(b, filepath.Join(dir, fmt.Sprintf("%d.journal", id)), w.b)
			}
			var e journal.Entry
			start, r := cpu(b), openDir(b, dir, nil)
			for b.Loop() {
				r.SeekHead()
				for range n {
					r.Next(&e)
				}
			}
			b.ReportMetric((cpu(b)-start).Seconds()/float64(b.N)/n*1e6, "CPU-s/M")
		})
	}
}
