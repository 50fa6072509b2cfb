package daemon

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settleAfter is when a start is over: connections are made, first results are there.
const settleAfter = 5 * time.Second

// Settle waits until the start is over, and gives back what only it needed. It returns
// earlier if ctx is done.
func Settle(ctx context.Context, log *slog.Logger) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(settleAfter):
	}
	if err := giveBack(); err != nil {
		log.Debug("memory of the start is kept", "err", err)
	}
}

// giveBack gives back the memory that only the start needed: what is free of the heap, and
// the pages of the program itself, most of which (initialisation, configuration) are not
// used again. Those that are come back from the page cache, one fault for sixteen of
// them (madvise(2), MADV_DONTNEED on a private mapping of a file). It is for a process
// that is to idle in a few megabytes.
func giveBack() error {
	debug.FreeOSMemory()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(bytes.NewReader(maps)); lines.Scan(); {
		m, ok := parseMapping(lines.Text())
		if !ok || m.path != exe || m.writable {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.start, m.end-m.start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("give back the pages of the program: %w", errno)
		}
	}
	return nil
}

// mapping is a line of /proc/PID/maps (proc_pid_maps(5)).
type mapping struct {
	start, end uintptr
	writable   bool
	path       string
}

// parseMapping reads a line; it reports whether the line is one of a file.
func parseMapping(line string) (m mapping, ok bool) {
	// start-end perms offset dev inode path, where only the path has blanks.
	fields := strings.Fields(line)
	at := strings.IndexByte(line, '/')
	if len(fields) < 6 || at < 0 || len(fields[1]) != len("rwxp") {
		return m, false
	}
	from, to, _ := strings.Cut(fields[0], "-")
	start, err1 := strconv.ParseUint(from, 16, 64)
	end, err2 := strconv.ParseUint(to, 16, 64)
	if err1 != nil || err2 != nil || start >= end {
		return m, false
	}
	return mapping{uintptr(start), uintptr(end), fields[1][1] == 'w', line[at:]}, true
}
