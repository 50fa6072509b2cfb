package journal

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sidecar/internal/journal"
	"sidecar/internal/record"
)

// stalled is what is written while the reader stands still: several times
// SystemMaxUse.
const stalled = 40_000

// stall has a reader stand still while journald writes and vacuums. What it does
// not get it counts, exactly; with pins there is none of that.
func (b *box) stall(pins bool) {
	b.configure("SystemMaxUse=16M\nSystemMaxFileSize=2M\n")
	o := b.options()
	if pins {
		o.Pins = &journal.PinOptions{QuotaBytes: 1 << 30}
	}
	r := follow(b.t, o)
	b.log("stall", "begin")
	r.want("stall", "begin")
	before, id := r.highest, fmt.Sprintf("stall-%t", pins)
	r.count = 0
	b.run(writer, "write", id, strconv.Itoa(stalled))
	b.run(writer, "write", "end", "1") // through the same socket, so it is the last
	lines := 0
	r.until(func(e *record.Entry) bool {
		if string(e.Identifier) == id {
			lines++
		}
		return string(e.Identifier) != "end"
	})
	b.t.Logf("%d of %d lines delivered, %d entries missing", lines, stalled, r.missing())
	if r.count+r.missing() != r.highest-before {
		b.t.Errorf("%d delivered and %d missing of %d: %+v", r.count, r.missing(), r.highest-before, r.gaps)
	}
	if pins && (lines != stalled || len(r.gaps) > 0) {
		b.t.Errorf("%d of %d lines in spite of pins: %+v", lines, stalled, r.gaps)
	}
	if !pins && lines > stalled/2 {
		b.t.Errorf("%d of %d lines: journald has not removed enough for this test", lines, stalled)
	}
	if !pins {
		return
	}
	position, err := r.s.Position(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := r.s.Commit(position); err != nil {
		b.t.Fatal(err)
	}
	if left := strings.Fields(b.run("sh", "-c", "ls /var/log/journal/logship-pins/*/")); len(left) > 3 {
		b.t.Errorf("pins left: %q", left)
	}
	r.stop()
	if err := journal.RemovePins(o.Places); err != nil {
		b.t.Error(err)
	}
}

// written is how many entries the readers of the identity test get.
const written = 30_000

// identity has three readers read along with a writer at full rate: one that never
// waits, one that waits for inotify only, and one that looks every 30 ms. All have
// what journalctl prints afterwards.
func (b *box) identity() {
	b.configure("SystemMaxUse=1G\nSystemMaxFileSize=8M\n")
	waits := map[string]func(*reader){
		"spin":    func(*reader) {},
		"inotify": func(r *reader) { <-r.s.Ready() },
		"poll": func(*reader) {
			timer := time.NewTimer(30 * time.Millisecond)
			defer timer.Stop()
			<-timer.C
		},
	}
	b.log("identity", "begin")
	cursor := b.run("journalctl", "-t", "identity", "-n", "1", "-o", "cat", "--show-cursor", "--no-pager")
	_, cursor, _ = strings.Cut(strings.TrimSpace(cursor), "-- cursor: ")
	got := map[string]chan []byte{}
	for name, wait := range waits {
		after, err := journal.ParseCursor(cursor)
		if err != nil {
			b.t.Fatal(err)
		}
		o := b.options()
		o.Start.After = after
		r := follow(b.t, o)
		ch := make(chan []byte, 1)
		got[name] = ch
		go func() { ch <- r.readAlong(wait) }()
	}
	b.run(writer, "write", "numbered", strconv.Itoa(written))
	b.run(writer, "write", "identity-end", "1") // through the same socket, so it is the last
	b.run("journalctl", "--sync")
	want := b.asJournalctl(cursor)
	if n := bytes.Count(want, []byte(" numbered ")); n != written {
		b.t.Errorf("journalctl has %d lines, want %d", n, written)
	}
	for name, ch := range got {
		if lines := <-ch; !bytes.Equal(lines, want) {
			b.t.Errorf("%s: %d lines, journalctl has %d; first difference at %q", name, bytes.Count(lines, []byte("\n")),
				bytes.Count(want, []byte("\n")), difference(lines, want))
		}
	}
}

// readAlong returns the event ID and the message of every entry up to the end.
func (r *reader) readAlong(wait func(*reader)) (lines []byte) {
	var e record.Entry
	for {
		ok, err := r.s.Next(&e)
		if err != nil {
			return fmt.Appendf(lines, "%v\n", err)
		}
		if !ok {
			wait(r)
			continue
		}
		lines = fmt.Appendf(lines, "%s %s\n", e.ID, e.Message)
		if string(e.Identifier) == "identity-end" {
			return lines
		}
	}
}

// asJournalctl returns the same as readAlong, of what journalctl prints.
func (b *box) asJournalctl(cursor string) (lines []byte) {
	out := b.run("journalctl", "--after-cursor", cursor, "-o", "export", "--output-fields=MESSAGE,SYSLOG_IDENTIFIER", "--no-pager")
	for entry := range strings.SplitSeq(out, "\n\n") {
		var id, message, identifier string
		for line := range strings.SplitSeq(entry, "\n") {
			name, value, _ := strings.Cut(line, "=")
			switch name {
			case "__CURSOR":
				c, err := journal.ParseCursor(value)
				if err != nil {
					b.t.Fatal(err)
				}
				// As the event ID is made: see appendEventID.
				id = fmt.Sprintf("%s-%x-%016x", c.Boot.String()[:12], c.Seqnum, c.XorHash^c.RealtimeUsec*0x9E3779B97F4A7C15)
			case "MESSAGE":
				message = value
			case "SYSLOG_IDENTIFIER":
				identifier = value
			}
		}
		if id == "" {
			continue
		}
		lines = fmt.Appendf(lines, "%s %s\n", id, message)
		if identifier == "identity-end" {
			break
		}
	}
	return lines
}

func difference(a, b []byte) string {
	x, y := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(x), len(y)) {
		if !bytes.Equal(x[i], y[i]) {
			return fmt.Sprintf("%s, %s", x[i], y[i])
		}
	}
	return ""
}

// latency measures from journald's receipt of an entry to Next, once entries come:
// the first one after a pause waits for journald's own notification.
func (b *box) latency() {
	r := follow(b.t, b.options())
	const first, entries = 20, 100
	script := "i=0; while [ $i -lt 120 ]; do echo lap; sleep 0.0$((i * 37 % 60)); i=$((i+1)); done"
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _, _ = b.Run(b.t.Context(), "systemd-run", "--quiet", "--wait", "-p", "SyslogIdentifier=latency", "sh", "-c", script)
	}()
	var late []time.Duration
	r.until(func(e *record.Entry) bool {
		if string(e.Identifier) == "latency" && string(e.Message) == "lap" {
			late = append(late, time.Since(time.UnixMicro(e.TimeUsec)))
		}
		return len(late) < first+entries
	})
	<-done
	late = late[first:]
	slices.Sort(late)
	p50, p99 := late[entries/2], late[entries*99/100-1]
	b.t.Logf("from journald to Next: p50 %v, p99 %v, max %v", p50, p99, late[entries-1])
	// journald's own notification takes 145 ms; a loaded machine should not fail this.
	if p50 > 40*time.Millisecond {
		b.t.Errorf("p50 %v", p50)
	}
}
