package intake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestRow01Kill kills logship under load, and once more while it is frozen. No sender is
// refused. What was stored arrives, and of each stream all up to where its connection
// ended; what the kernel holds for the sockets survives.
func TestRow01Kill(t *testing.T) {
	d := start(t, ownSockets+socketUnit(t), "")
	var flows []flow
	for i, listen := range []string{tcpUnit, streamUnit, tcpOwn} {
		flows = append(flows, flow{Listen: listen, Stream: fmt.Sprintf("cut%d", i), Count: 3000, Rate: 1500, Size: 300})
	}
	for i, listen := range []string{udpUnit, datagramUnit, udpOwn} {
		flows = append(flows, flow{Listen: listen, Stream: fmt.Sprintf("datagrams%d", i), Count: 1000, Rate: 500, Size: 300})
	}
	for i, listen := range []string{tcpUnit, streamUnit, tcpOwn} {
		flows = append(flows, flow{Listen: listen, Stream: fmt.Sprintf("new%d", i), Count: 1000, Rate: 500, Batch: 10})
	}
	end := d.begin(t, flows...)
	pause(time.Second)
	stored := int(d.metrics(t)["logship_syslog_messages_total"])
	d.signal(t, "KILL", "logship.service")
	d.killed = true
	accounts := end()
	tail := map[string]int{}
	d.await(t, func() (bool, string) {
		for stream := range accounts {
			if strings.HasPrefix(stream, "datagrams") && d.numbers[stream][1000] == "" {
				return false, "the last datagram of " + stream + " has not come"
			}
		}
		return d.total() >= stored, fmt.Sprintf("%d of %d stored messages have come", d.total(), stored)
	})
	for stream, a := range accounts {
		tail[stream] = d.missing(stream, a.Sent)
		first, last := d.hole(stream, a.Sent)
		switch {
		case a.Refused > 0:
			t.Errorf("%s was refused %d times", stream, a.Refused)
		case tail[stream] != last-first:
			t.Errorf("%s: not one hole: %d messages are missing between %d and %d", stream, tail[stream], first, last)
		case strings.HasPrefix(stream, "cut") && last != a.Sent+1 && tail[stream] > 0:
			t.Errorf("%s: %d to %d are missing of %d", stream, first, last, a.Sent)
		}
	}
	t.Logf("%d were stored at the kill; read and not stored, or on connections that died: %v", stored, tail)
	d.frozen(t)
	d.figures(t, 1)
}

// hole returns the first number that is missing, and the one behind the last.
func (a *arrivals) hole(stream string, n int) (first, last int) {
	for i := 1; i <= n; i++ {
		if a.numbers[stream][i] != "" {
			continue
		}
		if first == 0 {
			first = i
		}
		last = i + 1
	}
	return first, last
}

// frozen kills a logship that reads nothing: then it is known what the kernel holds.
func (d daemon) frozen(t *testing.T) {
	t.Helper()
	d.signal(t, "STOP", "logship.service")
	datagrams := d.begin(t,
		flow{Listen: udpUnit, Stream: "held0", Count: 500, Size: 300},
		flow{Listen: udpOwn, Stream: "held1", Count: 100, Size: 300},
		flow{Listen: datagramUnit, Stream: "held2", Count: 8, Size: 300})()
	end := d.begin(t,
		flow{Listen: tcpUnit, Stream: "held3", Count: 100, Batch: 10, Size: 300},
		flow{Listen: tcpOwn, Stream: "held4", Count: 100, Batch: 10, Size: 300},
		flow{Listen: streamUnit, Stream: "held5", Count: 100, Batch: 10, Size: 300})
	d.signal(t, "KILL", "logship.service")
	d.awaitAll(t, datagrams)
	d.awaitAll(t, end())
}

// TestRow22Burst has the load grow tenfold for some seconds: streams lose nothing, and of the
// datagrams those that do not arrive are counted, each one.
func TestRow22Burst(t *testing.T) {
	d := start(t, socketUnit(t)+ownSockets, "")
	const calm, burst, seconds = 300, 3000, 3
	streams := []string{tcpUnit, streamUnit, tcpOwn}
	datagrams := []string{udpUnit, datagramUnit, udpOwn}
	load := func(phase string, rate, seconds int) func() map[string]sent {
		var flows []flow
		for i, listen := range streams {
			flows = append(flows, flow{Listen: listen, Stream: fmt.Sprintf("%s-stream%d", phase, i), Count: seconds * rate, Rate: rate, Size: 300})
		}
		for i, listen := range datagrams {
			flows = append(flows, flow{Listen: listen, Stream: fmt.Sprintf("%s-datagrams%d", phase, i), Count: seconds * rate, Rate: rate, Size: 300})
		}
		return d.begin(t, flows...)
	}
	accounts := load("calm", calm, 1)()
	end := load("burst", burst, seconds)
	pause(time.Second)
	d.signal(t, "STOP", "logship.service")
	flood := d.begin(t, flow{Listen: udpOwn, Stream: "flood", Count: 20000, Size: 300})() // more than the kernel holds
	d.signal(t, "CONT", "logship.service")
	maps.Copy(accounts, flood)
	maps.Copy(accounts, end())
	maps.Copy(accounts, load("last", calm, 1)()) // the kernel tells of drops with the next datagram that it holds
	if d.settle(t, accounts) == 0 {
		t.Error("the kernel held the whole flood")
	}
	for stream, a := range accounts {
		if n := d.missing(stream, a.Sent); n > 0 && (strings.Contains(stream, "stream") || strings.HasPrefix(stream, "calm")) {
			t.Errorf("%s: %d of %d are missing", stream, n, a.Sent)
		}
	}
	d.check(t, accounts)

	// The kernel's count outlives the process; what is told does not begin anew.
	d.Do(t, "systemctl", "restart", "logship.service")
	d.awaitAll(t, d.begin(t, flow{Listen: udpUnit, Stream: "next0", Count: 1}, flow{Listen: udpOwn, Stream: "next1", Count: 1})())
	if n := d.discarded(t); n > 0 {
		t.Errorf("after a restart %d datagrams are discarded", n)
	}
	d.figures(t, 22)
}

// settle waits until all that was sent has arrived or was counted as discarded, and
// returns how many were.
func (d daemon) settle(t *testing.T, accounts map[string]sent) (discarded int) {
	t.Helper()
	all := 0
	for _, a := range accounts {
		all += a.Sent
	}
	d.await(t, func() (bool, string) {
		discarded = d.discarded(t)
		return d.total()+discarded == all, fmt.Sprintf("sent %d, arrived %d, discarded %d, not accounted for %d", all, d.total(), discarded, all-d.total()-discarded)
	})
	t.Logf("sent %d, arrived %d, discarded and counted %d", all, d.total(), discarded)
	return discarded
}

// TestRow23NoisySender has one sender of each kind of datagrams flood a logship that cannot store:
// it is the one whose messages are discarded, and told by name.
func TestRow23NoisySender(t *testing.T) {
	d := start(t, "spool.max = \"8MiB\"\n"+socketUnit(t), "")
	const seconds, loud, low = 3, 50000, 10
	accounts := map[string]sent{}
	for kind, listen := range map[string]string{"udp": udpUnit, "unixgram": datagramUnit} {
		d.signal(t, "STOP", "receiver.service")
		noisy := flow{Listen: listen, Stream: "noisy-" + kind, Count: seconds * loud, Rate: loud, Size: 200}
		if kind == "udp" {
			noisy.From = "127.0.0.2"
		}
		flows := []flow{noisy}
		for i := range 20 {
			quiet := flow{Listen: listen, Stream: fmt.Sprintf("quiet-%s%d", kind, i), Count: seconds * low, Rate: low, Size: 200}
			if kind == "udp" {
				quiet.From = "127.0.1." + strconv.Itoa(i+1)
			}
			flows = append(flows, quiet)
		}
		maps.Copy(accounts, d.begin(t, flows...)())
		d.signal(t, "CONT", "receiver.service")
		maps.Copy(accounts, d.begin(t, flow{Listen: udpUnit, Stream: "last-" + kind, Count: 10, Rate: 10})())
		d.settle(t, accounts)
	}
	// The kernel does not choose: what it drops while logship does not get to run may be
	// of anybody.
	quiet, kernel := 0, int(d.metrics(t)[`logship_syslog_discarded_total{reason="kernel"}`])
	for stream, a := range accounts {
		switch n := d.missing(stream, a.Sent); {
		case !strings.HasPrefix(stream, "noisy"):
			quiet += n
		case n == 0:
			t.Errorf("%s: nothing of %d is missing", stream, a.Sent)
		}
	}
	if quiet > kernel {
		t.Errorf("%d messages of quiet senders are missing, the kernel has dropped %d", quiet, kernel)
	}
	d.check(t, accounts)
	d.toldDiscards(t)
	d.figures(t, 23)
}

// toldDiscards stops logship and compares what the messages about gaps say with what
// the metrics have counted.
func (d daemon) toldDiscards(t *testing.T) {
	t.Helper()
	want := d.discarded(t)
	d.Do(t, "systemctl", "restart", "logship.service")
	d.await(t, func() (bool, string) {
		told := d.gaps["syslog_backlog"] + d.gaps["syslog_kernel"] + d.gaps["gelf_backlog"] + d.gaps["gelf_kernel"] + d.gaps["gelf_incomplete"]
		return told == want, fmt.Sprintf("messages tell of %d discarded datagrams, %d were counted: %v", told, want, d.gaps)
	})
}

// gelfInputs are inputs for GELF whose sockets logship makes.
const gelfInputs = `[[input.gelf]]
listen = "udp://127.0.0.1:12221"
[[input.gelf]]
listen = "tcp://127.0.0.1:12221"
[[input.gelf]]
listen = "http://127.0.0.1:12222"
`

// TestRow24MemoryLimit sends long lines on all inputs to a logship that may have 128 MB, its
// spool in memory among them, while the receiver takes nothing: the streams wait, and lose
// nothing; of the datagrams, chunked ones too, those that do not arrive are counted, each one.
func TestRow24MemoryLimit(t *testing.T) {
	d := start(t, "spool.max = \"16MiB\"\n"+socketUnit(t)+gelfInputs, "")
	const limit = 128 << 20
	group := memoryGroup(t, limit)
	pid := d.hostPID(t)
	must(t, os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0))
	t.Cleanup(func() {
		_, _, err := d.Run(context.WithoutCancel(t.Context()), "sh", "-c", stop)
		must(t, errors.Join(err, os.Remove(group))) // a cgroup can be removed when its processes have ended
	})
	d.signal(t, "STOP", "receiver.service")
	var flows []flow
	for i, listen := range []string{tcpUnit, streamUnit, tcpUnit, streamUnit, gelfTCPOwn, gelfHTTPOwn} {
		flows = append(flows, flow{Listen: listen, Stream: fmt.Sprintf("long%d", i), Count: 300, Size: 60000})
	}
	for i, listen := range []string{udpUnit, datagramUnit, gelfUDPOwn} {
		flows = append(flows, flow{Listen: listen, Stream: fmt.Sprintf("datagrams%d", i), Count: 300, Rate: 200, Size: 60000})
	}
	end := d.begin(t, flows...)
	pause(2 * time.Second)
	d.signal(t, "CONT", "receiver.service")
	accounts := end()
	maps.Copy(accounts, d.begin(t, flow{Listen: udpUnit, Stream: "last0", Count: 1}, flow{Listen: gelfUDPOwn, Stream: "last1", Count: 1})())
	if d.settle(t, accounts) == 0 {
		t.Error("all datagrams found room")
	}
	for stream, a := range accounts {
		if n := d.missing(stream, a.Sent); n > 0 && strings.HasPrefix(stream, "long") {
			t.Errorf("%s: %d of %d are missing", stream, n, a.Sent)
		}
	}
	d.check(t, accounts)
	if d.hostPID(t) != pid {
		t.Error("logship has ended and was started again")
	}
	t.Logf("at most %d MB of %d, beside what the spool's file system takes", d.peakMemory(t)>>20, limit>>20)
	d.toldDiscards(t)
	d.figures(t, 24)
}

// memoryGroup returns the directory of a cgroup with a memory limit.
func memoryGroup(t *testing.T, limit int) string {
	t.Helper()
	parent, file := "/sys/fs/cgroup", "memory.max"
	if _, err := os.Stat(parent + "/memory"); err == nil {
		parent, file = parent+"/memory", "memory.limit_in_bytes"
	}
	dir, err := os.MkdirTemp(parent, "logship-intake-*")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, file), []byte(strconv.Itoa(limit)), 0))
	return dir
}

// TestRow25Descriptors takes away all descriptors but a few, with connections: what comes on those
// that were there is shipped meanwhile, which takes a new connection for every cut, and
// when the others are gone new ones are served at once.
func TestRow25Descriptors(t *testing.T) {
	d := start(t, socketUnit(t), "LimitNOFILE=32\n")
	var flows []flow
	for i := range 4 {
		flows = append(flows, flow{Listen: []string{tcpUnit, streamUnit}[i%2], Stream: fmt.Sprintf("open%d", i), Count: 2000, Rate: 500, Size: 4000})
	}
	end := d.begin(t, flows...)
	d.await(t, func() (bool, string) { return d.total() > 0, "nothing comes" })
	crowd := d.begin(t, flow{Listen: tcpUnit, From: "127.0.0.66", Stream: "crowd", Count: 60, Attack: "crowd", Linger: 2 * time.Second},
		flow{Listen: streamUnit, Stream: "crowd2", Count: 60, Attack: "crowd", Linger: 2 * time.Second})()
	began := time.Now()
	accounts := d.begin(t, flow{Listen: tcpUnit, Stream: "after0", Count: 10, Batch: 1}, flow{Listen: streamUnit, Stream: "after1", Count: 10, Batch: 1})()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("new connections are served after %v", took)
	}
	for stream, a := range end() {
		accounts[stream] = a
	}
	d.awaitAll(t, accounts)
	for stream, a := range crowd {
		if a.Error != "" {
			t.Errorf("%s: %s", stream, a.Error)
		}
	}
	m := d.metrics(t)
	if m[`logship_syslog_refused_total{reason="connections"}`] == 0 || m["logship_output_failures_total"] > 0 || m["logship_spool_failures_total"] > 0 {
		t.Errorf("refused connections %v, failures of the output %v, of the spool %v", m[`logship_syslog_refused_total{reason="connections"}`],
			m["logship_output_failures_total"], m["logship_spool_failures_total"])
	}
	d.figures(t, 25)
}

// TestRow30Hostile has senders do everything that a sender should not, at once. Others lose
// nothing, and logship stays small.
func TestRow30Hostile(t *testing.T) {
	d := start(t, socketUnit(t)+gelfInputs, "")
	const bad, seconds = "127.0.0.66", 6
	attacks := []flow{
		{Listen: streamUnit, Stream: "endless", Attack: "endless", Size: 1 << 30},
		{Listen: tcpUnit, From: bad, Stream: "crowd", Attack: "crowd", Count: 10000, Linger: time.Second},
		{Listen: tcpUnit, From: "127.0.0.67", Stream: "lies", Attack: "lies"},
	}
	for i, listen := range []string{tcpUnit, streamUnit, udpUnit, datagramUnit} {
		attacks = append(attacks, flow{Listen: listen, From: "127.0.0.68", Stream: fmt.Sprintf("noise%d", i), Attack: "noise", Count: 500})
	}
	for i := range 5 {
		attacks = append(attacks, flow{Listen: tcpUnit, From: "127.0.0.69", Stream: fmt.Sprintf("drip%d", i), Attack: "drip", Rate: 1, Linger: seconds * time.Second})
	}
	// The rates are such that the kernel, which knows no senders, has room for the others.
	attacks = append(attacks,
		flow{Listen: gelfUDPOwn, From: bad, Stream: "bombs0", Attack: "bombs", Count: 200, Rate: 50},
		flow{Listen: gelfHTTPOwn, Stream: "bombs1", Attack: "bombs", Count: 200, Rate: 100},
		flow{Listen: gelfUDPOwn, From: bad, Stream: "chunks", Attack: "chunks", Count: 10000, Rate: 2000},
		flow{Listen: gelfTCPOwn, Stream: "endless1", Attack: "endless", Size: 1 << 30},
		flow{Listen: gelfHTTPOwn, Stream: "crowd1", Attack: "crowd", Count: 10000, Linger: time.Second},
		flow{Listen: gelfTCPOwn, Stream: "drip-gelf", Attack: "drip", Rate: 1, Linger: seconds * time.Second})
	var flows []flow
	for i, listen := range []string{tcpUnit, streamUnit, udpUnit, datagramUnit, gelfTCPOwn, gelfUDPOwn} {
		flows = append(flows, flow{Listen: listen, Stream: fmt.Sprintf("good%d", i), Count: seconds * 200, Rate: 200, Size: 300})
	}
	end := d.begin(t, flows...)
	harm := d.begin(t, attacks...)()
	accounts := end()
	d.awaitAll(t, accounts)
	for stream, a := range harm {
		if a.Error != "" {
			t.Errorf("%s: %s", stream, a.Error)
		}
	}
	metrics := d.metrics(t)
	if metrics["logship_syslog_cut_total"] == 0 || metrics["logship_syslog_resyncs_total"] == 0 {
		t.Errorf("the line without an end, or the wrong counts, are not counted")
	}
	if refused := metrics[`logship_syslog_refused_total{reason="connections_per_address"}`]; refused < 9000 {
		t.Errorf("%v connections of one address were refused", refused)
	}
	for _, reason := range []string{"too_long", "chunk", "connections"} {
		if metrics[`logship_gelf_discarded_total{reason="`+reason+`"}`] == 0 {
			t.Errorf("no %s of GELF is counted", reason)
		}
	}
	const bound = 96 << 20
	if peak := d.peakMemory(t); peak > bound {
		t.Errorf("logship has taken %d MB, want at most %d", peak>>20, bound>>20)
	} else {
		t.Logf("at most %d MB", peak>>20)
	}
	d.figures(t, 30)
}
