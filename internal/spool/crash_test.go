package spool

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sidecar/internal/record"
)

// crashRun is a schedule of appends, reads, confirmations, restarts and power cuts.
// It checks: every acknowledged message that is not confirmed is delivered, in order
// and unchanged, nothing else is, no event ID stands for two messages, nothing is
// counted as lost, and after each restart a new message passes.
type crashRun struct {
	rng    *rand.Rand
	disk   *memDisk
	wrap   func(disk) disk // plants a bug
	faults float64         // how often an operation fails
	ctx    context.Context
	s      *Spool
	src    *Source

	issued    uint64            // messages are numbered from 1
	gathered  []uint64          // those that this process has taken and that are not acked
	acked     map[uint64]bool   // those that Append returned nil for, or a later Append
	last      uint64            // that was delivered since the last rewind
	confirmed uint64            // the last that was committed
	committed json.RawMessage   // its position
	saved     json.RawMessage   // what is left of it after a crash
	ids       map[string]uint64 // message by event ID
	cuts      int
}

const crashDir = "/var/lib/spool"

func newCrashRun(seed uint64, wrap func(disk) disk, faults float64) *crashRun {
	rng := rand.New(rand.NewPCG(seed, 1))
	none := json.RawMessage("{}")
	return &crashRun{rng: rng, disk: newMemDisk(rng), wrap: wrap, faults: faults,
		acked: map[uint64]bool{}, ids: map[string]uint64{}, committed: none, saved: none}
}

// run does n operations, and is at the end of them restarted and read to the end.
func (r *crashRun) run(n int) error {
	for ; n > 0; n-- {
		if err := r.operation(); err != nil && !r.disk.off {
			return err
		}
		if !r.disk.off {
			continue
		}
		if r.rng.IntN(3) > 0 {
			r.cut()
		} else {
			r.kill()
		}
	}
	r.disk.ops = -1
	r.cutNow()
	return errors.Join(r.start(), r.check())
}

func (r *crashRun) operation() error {
	if r.s == nil {
		if err := r.start(); err != nil {
			return err
		}
		return r.check()
	}
	switch r.rng.IntN(12) {
	case 0:
		r.disk.ops = r.rng.IntN(40) // the power will be cut
	case 1:
		r.saved = r.committed
		err := r.s.Close()
		r.s = nil
		if err == nil {
			r.ack()
		}
		if r.faults > 0 {
			return nil
		}
		return err
	case 2:
		r.kill()
	case 3, 4:
		return r.commit()
	case 5:
		r.last = 0
		return r.src.Rewind(r.committed)
	case 6, 7, 8:
		return r.read(r.rng.IntN(8))
	case 9:
		return r.gather(1 + r.rng.IntN(4))
	default:
		return r.append(r.rng.IntN(5))
	}
	return nil
}

// start opens the spool and goes to the saved position.
func (r *crashRun) start() error {
	ctx, cancel := context.WithCancel(context.Background())
	r.ctx, r.disk.onCut = ctx, cancel
	r.disk.fault = r.fault
	var d disk = r.disk
	if r.wrap != nil {
		d = r.wrap(d)
	}
	s, err := open(d, crashDir, Options{MaxBytes: 1 << 30, segmentBytes: 200 + int64(r.rng.IntN(800)), retryAfter: 1})
	if err != nil {
		if r.faults > 0 { // what the system says; the next try may have more luck
			return nil
		}
		return err
	}
	r.s, r.src, r.last, r.committed = s, s.NewSource("spool", nil), 0, r.saved
	r.gathered = nil
	return r.src.Rewind(r.saved)
}

// fault lets an operation fail, the ones of which that is a matter of the disk.
func (r *crashRun) fault(op, _ string) error {
	if r.faults == 0 || r.rng.Float64() >= r.faults {
		return nil
	}
	switch op {
	case "sync", "syncdir", "remove", "rename":
		return syscall.EIO
	case "write", "create":
		return syscall.ENOSPC
	}
	return nil
}

func (r *crashRun) append(n int) error {
	msgs := r.issue(n)
	if err := r.s.Append(r.ctx, msgs); err != nil {
		r.gathered = r.gathered[:len(r.gathered)-n] // some may not even have come into memory
		return err
	}
	r.ack()
	return nil
}

func (r *crashRun) gather(n int) error {
	msgs := r.issue(n)
	err := r.s.Gather(r.ctx, msgs)
	if err != nil {
		r.gathered = r.gathered[:len(r.gathered)-n]
	}
	return err
}

// issue makes messages.
func (r *crashRun) issue(n int) []Message {
	msgs := make([]Message, n)
	for i := range msgs {
		r.issued++
		r.gathered = append(r.gathered, r.issued)
		msgs[i].Text = append(binary.BigEndian.AppendUint64(nil, r.issued), make([]byte, r.rng.IntN(100))...)
	}
	return msgs
}

// ack notes that all that was taken is durable.
func (r *crashRun) ack() {
	for _, n := range r.gathered {
		r.acked[n] = true
	}
	r.gathered = nil
}

// read delivers up to n messages, all if n is negative.
func (r *crashRun) read(n int) error {
	var e record.Entry
	for ; n != 0; n-- {
		ok, err := r.src.Next(&e)
		if err != nil || !ok {
			return err
		}
		if err := r.deliver(&e); err != nil {
			return err
		}
	}
	return nil
}

func (r *crashRun) deliver(e *record.Entry) error {
	if len(e.Message) < 8 {
		return fmt.Errorf("delivered %q, which was never appended", e.Message)
	}
	number := binary.BigEndian.Uint64(e.Message)
	if number == 0 || number > r.issued || strings.Trim(string(e.Message[8:]), "\x00") != "" {
		return fmt.Errorf("delivered %q, which was never appended", e.Message)
	}
	if before, ok := r.ids[string(e.ID)]; ok && before != number {
		return fmt.Errorf("event ID %s stands for the messages %d and %d", e.ID, before, number)
	}
	r.ids[string(e.ID)] = number
	if number <= r.last {
		return fmt.Errorf("message %d comes behind %d", number, r.last)
	}
	if err := r.missing(number); err != nil {
		return err
	}
	r.last = number
	return nil
}

// missing returns an error if something that had to be delivered was not, up to number.
func (r *crashRun) missing(number uint64) error {
	for n := max(r.last, r.confirmed) + 1; n < number; n++ {
		if r.acked[n] {
			return fmt.Errorf("message %d is missing in front of %d", n, number)
		}
	}
	return nil
}

func (r *crashRun) commit() error {
	p, err := r.src.Position(nil)
	if err != nil {
		return err
	}
	r.committed, r.confirmed = p, max(r.confirmed, r.last)
	if r.rng.IntN(3) == 0 {
		r.saved = p
	}
	return r.src.Commit(p)
}

// check reads everything, and whether a new message passes.
func (r *crashRun) check() error {
	if r.s == nil {
		return nil
	}
	if err := r.read(-1); err != nil {
		return err
	}
	if err := r.missing(r.issued + 1); err != nil {
		return err
	}
	if err := r.append(1); err != nil {
		return err
	}
	if err := r.read(-1); err != nil {
		return err
	}
	if lost := r.s.Stats().Lost; lost > 0 {
		return fmt.Errorf("%d messages are counted as lost", lost)
	}
	return r.missing(r.issued + 1)
}

// kill ends the process: what is written stays, what is in memory goes.
func (r *crashRun) kill() {
	if r.s != nil && r.s.retry != nil {
		r.s.retry.Stop()
	}
	r.s = nil
	r.disk.ops, r.disk.off, r.disk.locks = -1, false, map[string]bool{}
}

// cut starts the machine again after the power went off.
func (r *crashRun) cut() {
	if r.s != nil && r.s.retry != nil {
		r.s.retry.Stop()
	}
	keep := []float64{0, 1, r.rng.Float64()}[r.rng.IntN(3)]
	r.disk = r.disk.cut(keep)
	r.s = nil
	r.cuts++
}

func (r *crashRun) cutNow() {
	r.disk.off = true
	r.cut()
}

// crashes runs schedules until a violation is found, or the time is over and there
// were enough of them.
func crashes(t *testing.T, d time.Duration, least int, wrap func(disk) disk, faults float64) (schedules int, err error) {
	t.Helper()
	cuts := 0
	for end := time.Now().Add(d); schedules < least || time.Now().Before(end); schedules++ {
		r := newCrashRun(uint64(schedules), wrap, faults)
		if err := r.run(60); err != nil {
			return schedules + 1, fmt.Errorf("schedule %d: %w", schedules, err)
		}
		cuts += r.cuts
	}
	t.Logf("%d schedules, %d power cuts", schedules, cuts)
	return schedules, nil
}

func TestCrashModel(t *testing.T) {
	if _, err := crashes(t, 3*time.Second, 300, nil, 0); err != nil {
		t.Error(err)
	}
}

func TestCrashModelWithFaults(t *testing.T) {
	if _, err := crashes(t, 3*time.Second, 300, nil, 0.05); err != nil {
		t.Error(err)
	}
}

// buggyDisk is a disk used wrongly.
type buggyDisk struct {
	disk
	syncDirIf func(path string) bool
	file      func(file, string) file
}

func (d buggyDisk) syncDir(path string) error {
	if d.syncDirIf != nil && !d.syncDirIf(path) {
		return nil
	}
	return d.disk.syncDir(path)
}

func (d buggyDisk) create(path string) (file, error) { return d.wrapFile(path)(d.disk.create(path)) }

func (d buggyDisk) open(path string, write bool) (file, error) {
	return d.wrapFile(path)(d.disk.open(path, write))
}

func (d buggyDisk) wrapFile(path string) func(file, error) (file, error) {
	return func(f file, err error) (file, error) {
		if err != nil || d.file == nil {
			return f, err
		}
		return d.file(f, filepath.Base(path)), nil
	}
}

type buggyFile struct {
	file
	sync func(file) error
}

func (f buggyFile) Sync() error { return f.sync(f.file) }

// syncOf replaces the sync of the files whose name has a suffix.
func syncOf(suffix string, sync func(file) error) func(disk) disk {
	return func(d disk) disk {
		return buggyDisk{disk: d, file: func(f file, name string) file {
			if !strings.HasSuffix(name, suffix) {
				return f
			}
			return buggyFile{f, sync}
		}}
	}
}

func never(file) error { return nil }

// The model finds what it is there to find: each of these bugs has been one of a
// queue in wide use.
func TestCrashModelFindsPlantedBugs(t *testing.T) {
	var late file
	for _, bug := range []struct {
		name   string
		wrap   func(disk) disk
		faults float64
	}{
		{"a new segment's name is not synced", func(d disk) disk {
			return buggyDisk{disk: d, syncDirIf: func(path string) bool { return path != crashDir }}
		}, 0},
		{"the directory's name is not synced", func(d disk) disk {
			return buggyDisk{disk: d, syncDirIf: func(path string) bool { return path == crashDir }}
		}, 0},
		{"segments are not synced", syncOf(segmentSuffix, never), 0},
		{"nothing is synced", func(d disk) disk {
			return buggyDisk{disk: syncOf("", never)(d), syncDirIf: func(string) bool { return false }}
		}, 0},
		{"acknowledged before the sync", syncOf(segmentSuffix, func(f file) (err error) {
			if late != nil {
				err = late.Sync()
			}
			late = f
			return err
		}), 0},
		{"segments are unlinked before the cursor is durable", syncOf(cursorName, never), 0},
		{"a sync that failed is tried again", syncOf(segmentSuffix, func(f file) error {
			if f.Sync() == nil {
				return nil
			}
			return f.Sync()
		}), 0.05},
		{"an error of a sync is not looked at", syncOf(segmentSuffix, func(f file) error {
			f.Sync()
			return nil
		}), 0.05},
	} {
		t.Run(bug.name, func(t *testing.T) {
			late = nil
			n, err := crashes(t, 0, 2000, bug.wrap, bug.faults)
			if err == nil {
				t.Fatalf("not found in %d schedules", n)
			}
			t.Logf("found after %d schedules: %v", n, err)
		})
	}
}
