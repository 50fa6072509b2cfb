package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"
)

// A file with incompatible flags that this package does not know is read through
// `journalctl -o export --all`, one child process for each such file and run:
//
//   - The file is handed over open, as standard input (--file=-, in systemd since
//     version 236). So the child reads the file whose file_id was read here, even
//     if journald renames or removes it meanwhile, and everything that goes by
//     file (positions, order, gaps, release) holds for it as for the others.
//   - The child never follows. `-f` means only the latest boot from systemd 250 on,
//     unless other options say otherwise in some versions, and ends or hangs at a
//     rotation. Instead the child reads to the end, and another one starts behind
//     the last entry when the file was written to.
//   - It starts with --cursor, never --after-cursor, which skips the next entry if
//     that of the cursor is gone.
//   - It is asked for nothing but entries: filters and time spans are ours.

const (
	// maxChildren is how many children a Reader has at a time. Further ones take the
	// place of that which was idle for longest, whose file is resumed by cursor.
	maxChildren = 16
	// patience is how long a child may take for its next bytes, or to exit.
	patience = 10 * time.Second
	// roundInterval is the least time from one round of runs over files that were
	// written to, to the next: journald announces what it wrote no more often. All
	// files have their turn at the same time, so that none is ahead of another.
	roundInterval = 250 * time.Millisecond
	// A file is read again minBackoff after a child failed, then twice as late each
	// time, up to maxBackoff, each less or more by up to half of it.
	minBackoff = time.Second
	maxBackoff = 5 * time.Minute
	// maxGoneFailures is how many runs in a row may fail over a file that was removed,
	// and whose content journald may have taken out, before it is given up.
	maxGoneFailures = 3
	// settled is how old the modification of a file must be to know that a later
	// one has another time: two ticks of the slowest kernel clock.
	settled = 20 * time.Millisecond
)

// errFallback is wrapped by what keeps a child from reading a file for now.
var errFallback = errors.New("journalctl")

// journalctl is what the children of a Reader share.
type journalctl struct {
	command  string
	avoid    uint32 // known incompatible flags that are read this way too, for tests
	values   *values
	patience time.Duration
	settled  time.Duration
	round    time.Time   // when the last one began
	open     bool        // files may have a new run
	running  []*fallback // the one that was idle for longest first
}

// fallback is the reading part of a file that is read through journalctl. The
// file's n is index while there is nothing new, else one more.
type fallback struct {
	tool *journalctl
	path string // of the command
	why  error  // wraps ErrIncompatible

	child  *exec.Cmd // nil between runs
	out    *os.File
	stderr tail
	in     exportReader
	final  bool // nothing was to be written to the file any more when it began

	entry  exported
	to     target // where seek is to go, and could not yet
	known  uint64 // index of the last entry that is known to be there, from 1
	seqnum uint64 // a run begins behind it; 0 is the first entry

	seen      version // of the file, before the last run
	changed   bool    // since then; waits for the next round
	owed      bool    // a round came during the run, which may have seen the file before
	finished  bool    // a final run came to its end
	notBefore time.Time
	failures  int   // since the last run that did not fail
	err       error // of the last run, if it failed
}

// version tells whether a file was written to.
type version struct {
	size  int64
	mtime time.Time
}

// adopt returns the fallback for a file that why, which wraps ErrIncompatible,
// keeps from being read here. The error wraps why: there is no journalctl.
func (t *journalctl) adopt(why error) (*fallback, error) {
	path, err := exec.LookPath(t.command)
	if err != nil {
		return nil, fmt.Errorf("%w, and %v", why, err)
	}
	return &fallback{tool: t, path: path, why: why}, nil
}

// turn lets files that were written to have a new run, if it is time for that.
func (t *journalctl) turn(now time.Time) {
	if t.open = now.Sub(t.round) >= roundInterval; t.open {
		t.round = now
	}
}

// refresh reports whether there may be new entries, which are to be read now.
func (x *fallback) refresh(j *file) (bool, error) {
	if x.child != nil || x.finished || j.index < j.n {
		x.owed = x.owed || x.tool.open
		return false, nil
	}
	now, err := versionOf(j.f)
	if x.changed = err == nil && now != x.seen; !x.changed || !x.tool.open {
		return false, err
	}
	x.changed = false
	j.n = j.index + 1
	return true, nil
}

func versionOf(f *os.File) (version, error) {
	info, err := f.Stat()
	if err != nil {
		return version{}, err
	}
	return version{size: info.Size(), mtime: info.ModTime()}, nil
}

// load makes j's head the next entry, if there is one. errNotYet means that it
// is not time for another run; an error that wraps errFallback that a run failed,
// which is said once until one does not; any other error that what is left of the
// file is lost.
func (x *fallback) load(j *file) error {
	if x.child == nil && time.Now().Before(x.notBefore) {
		j.waiting = true
		return errNotYet
	}
	err := x.advance(j)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) && x.failures == 0 {
		// It may have come across a file that was being written to just then.
		x.stop()
		err = x.advance(j)
	}
	switch {
	case err == nil:
		x.take(j)
		j.hasHead = true
		j.index++
		j.n = max(j.n, j.index+1) // until the run has ended
	case errors.Is(err, io.EOF):
		j.n = j.index
		x.finished = x.final
		x.entry = exported{}
		if now, err := versionOf(j.f); x.owed && !x.finished && err == nil && now != x.seen {
			j.n = j.index + 1 // else other files would be ahead of it
			return x.load(j)
		}
	default:
		return x.fail(j, err)
	}
	x.failures, x.err = 0, nil
	return nil
}

// fail ends a run that failed and says what load is to return.
func (x *fallback) fail(j *file, err error) error {
	x.stop()
	x.failures++
	x.err = fmt.Errorf("%w: %w", errFallback, err)
	pause := min(minBackoff<<min(x.failures-1, 16), maxBackoff)
	x.notBefore = time.Now().Add(pause/2 + rand.N(pause))
	switch {
	case j.gone && x.failures > maxGoneFailures:
		return fmt.Errorf("%w: %v", errCorrupt, x.err)
	case x.failures > 1:
		err = errNotYet
	default:
		err = x.err
	}
	j.waiting = true
	return err
}

// advance reads the next entry behind what a seek asked for and was read since.
func (x *fallback) advance(j *file) error {
	if err := x.locate(j); err != nil {
		return within(err)
	}
	return x.next(j)
}

// next reads the next entry behind seqnum. io.EOF means that there is none.
func (x *fallback) next(j *file) error {
	if x.child == nil {
		if err := x.start(j, x.behind(j)...); err != nil {
			return err
		}
	}
	x.tool.use(x)
	for {
		// A run begins with the entry of the cursor or, without it, anywhere before.
		if err := x.read(); err != nil || x.entry.cursor.Seqnum > x.seqnum {
			return err
		}
	}
}

// behind returns the arguments for a run over what follows seqnum.
func (x *fallback) behind(j *file) []string {
	if x.seqnum == 0 {
		return nil
	}
	return []string{fmt.Sprintf("--cursor=s=%s;i=%x", j.seqnumID, x.seqnum)}
}

// read reads the next entry of the run. io.EOF means that the run has ended.
func (x *fallback) read() error {
	err := x.in.next(&x.entry)
	if errors.Is(err, io.EOF) {
		if err := x.wait(); err != nil {
			return err
		}
	}
	return err
}

// take makes the entry that was read the one that j stands at.
func (x *fallback) take(j *file) {
	c := x.entry.cursor
	x.seqnum = c.Seqnum
	j.seqnumID, j.tailSeqnum = c.SeqnumID, max(j.tailSeqnum, c.Seqnum)
	j.head = stamp{seqnum: c.Seqnum, realtime: c.RealtimeUsec, monotonic: c.MonotonicUsec, boot: c.Boot, xor: c.XorHash}
}

// seek goes to t. If the file cannot be read for now, load goes there.
func (x *fallback) seek(j *file, t target) error {
	x.stop()
	j.restart()
	j.last, j.n = t.seqnum, 1
	x.to, x.seqnum, x.known, x.seen, x.finished = t, t.seqnum, 0, version{}, false
	if x.failures > 0 {
		return nil
	}
	if err := x.locate(j); err != nil {
		return x.fail(j, err)
	}
	return nil
}

// locate finds the sequence number before the target of the last seek, if that is
// still to be done.
func (x *fallback) locate(j *file) error {
	t := x.to
	cursor := t.cursor.String()
	if t.usec > 0 {
		cursor = fmt.Sprintf("t=%x", t.usec)
	}
	if cursor == "" && !t.end {
		return nil
	}
	n, first, err := x.survey(j, "--lines="+strconv.FormatUint(max(t.count, 1), 10))
	if err != nil {
		return err
	}
	j.n = 0
	switch after := t.after(j); {
	case n == 0: // all that will come is behind the target
	case t.count > 0:
		x.seqnum = first - 1
		j.n, x.known = n, n
	case !t.end && after(j.head): // so it is there, as entries are never removed from a file
		if err := x.start(j, "--cursor="+cursor); err != nil {
			return err
		}
		for found := false; !found; found = after(j.head) {
			if err := x.read(); err != nil {
				return within(err)
			}
			x.take(j)
		}
		x.stop()
		x.seqnum--
		j.n = 1
	}
	j.last, x.to = x.seqnum, target{}
	return nil
}

// survey makes a run and returns how many entries it gave and the sequence
// number of the first one; j stands at the last one.
func (x *fallback) survey(j *file, args ...string) (n, first uint64, err error) {
	if err := x.start(j, args...); err != nil {
		return 0, 0, err
	}
	for {
		err := x.read()
		if errors.Is(err, io.EOF) {
			return n, first, nil
		}
		if err != nil {
			return 0, 0, err
		}
		x.take(j)
		if n++; n == 1 {
			first = x.seqnum
		}
	}
}

// start begins a run.
func (x *fallback) start(j *file, args ...string) error {
	x.stop()
	x.final, x.changed, x.owed = j.archived(), false, false
	seen, err := versionOf(j.f)
	if err != nil {
		return err
	}
	x.seen = seen
	if age := time.Since(seen.mtime); -x.tool.settled < age && age < x.tool.settled {
		x.seen = version{} // it may be written to once more at the same time
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	child := exec.Command(x.path, append([]string{"--file=-", "--output=export", "--all", "--no-pager", "--quiet"}, args...)...)
	child.Env = append(os.Environ(), "LC_ALL=C")
	child.Stdin, child.Stdout, child.Stderr = j.f, w, &x.stderr
	child.WaitDelay = x.tool.patience
	x.stderr = nil
	err = child.Start()
	w.Close()
	if err != nil {
		r.Close()
		return err
	}
	x.child, x.out = child, r
	x.tool.use(x)
	x.in = exportReader{r: bufio.NewReaderSize(impatient{r, x.tool.patience}, firstWindow), values: x.tool.values}
	return nil
}

// stop ends the run, if there is one. What it would have given is read by the next.
func (x *fallback) stop() {
	if x.child != nil {
		x.child.Process.Kill() // in vain if it has ended
		x.wait()
	}
}

// wait returns how the child ended.
func (x *fallback) wait() error {
	x.out.Close()
	kill := time.AfterFunc(x.tool.patience, func() { x.child.Process.Kill() })
	err := x.child.Wait()
	kill.Stop()
	x.child, x.out, x.in = nil, nil, exportReader{}
	x.tool.running = slices.DeleteFunc(x.tool.running, func(other *fallback) bool { return other == x })
	if err != nil && len(x.stderr) > 0 {
		return fmt.Errorf("%w: %q", err, x.stderr)
	}
	return err
}

// use makes x the one of t's children that was used last, and room for it.
func (t *journalctl) use(x *fallback) {
	if n := len(t.running); n > 0 && t.running[n-1] == x {
		return
	}
	t.running = slices.DeleteFunc(t.running, func(other *fallback) bool { return other == x })
	if len(t.running) == maxChildren {
		t.running[0].stop()
	}
	t.running = append(t.running, x)
}

// impatient reads from a pipe and gives up when nothing comes.
type impatient struct {
	pipe     *os.File
	patience time.Duration
}

func (r impatient) Read(b []byte) (int, error) {
	if err := r.pipe.SetReadDeadline(time.Now().Add(r.patience)); err != nil {
		return 0, err
	}
	return r.pipe.Read(b)
}

// tail keeps the end of what is written to it.
type tail []byte

func (t *tail) Write(b []byte) (int, error) {
	const keep = 256
	*t = append(*t, b...)
	*t = (*t)[max(0, len(*t)-keep):]
	return len(b), nil
}

// fill makes e the entry that was loaded, with all of its fields if all is set,
// and returns how many fields could be read.
func (x *fallback) fill(e *Entry, all bool) int {
	e.Damaged = x.entry.damaged
	for _, field := range x.entry.fields {
		e.met |= field.met
		if field.Name != 0 && e.known[field.Name] == nil {
			e.known[field.Name] = field.Value()
		}
		if all {
			e.Fields = append(e.Fields, field)
		}
	}
	return len(x.entry.fields)
}

// Fallback says that journal files of a directory are read through journalctl.
type Fallback struct {
	// Directory holds the files, Files is how many they are.
	Directory string
	Files     int
	// Why wraps ErrIncompatible and names the flags of one of the files.
	Why error
	// Err is why journalctl cannot read one of them for now, nil if it can.
	Err error
}

// meetFallback prepares for f, which is new, being read through journalctl, and
// tells the operator of the first file of a directory.
func (r *Reader) meetFallback(f *file) {
	r.journalctl.open = true // what other files have may be older than what f has
	if !slices.ContainsFunc(r.Fallbacks(), func(known Fallback) bool { return known.Directory == f.dir }) {
		r.options.Log.Warn("journal files of an unknown format are read through journalctl, which is slower",
			"path", f.path, "err", f.fallback.why)
	}
}

// FallbackFiles returns how many files are read through journalctl, as of the last
// Lag. It may be called by any goroutine.
func (s *Source) FallbackFiles() int { return int(s.fallback.Load()) }

func (s *Source) updateFallback() {
	files := 0
	for _, f := range s.r.files {
		if f.fallback != nil {
			files++
		}
	}
	s.fallback.Store(int64(files))
}

// Fallbacks returns where journalctl is used, by directory. Such files cost some
// twenty times the CPU time of others.
func (r *Reader) Fallbacks() []Fallback {
	var all []Fallback
	for _, f := range r.files {
		if f.fallback == nil {
			continue
		}
		i := slices.IndexFunc(all, func(known Fallback) bool { return known.Directory == f.dir })
		if i < 0 {
			i = len(all)
			all = append(all, Fallback{Directory: f.dir, Why: f.fallback.why})
		}
		all[i].Files++
		if all[i].Err == nil {
			all[i].Err = f.fallback.err
		}
	}
	return all
}
