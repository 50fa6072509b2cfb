package daemon

import (
	"context"
	"log/slog"
	"os"
	"regexp"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// resident returns how many KiB of the pages of this program that are not written to
// are in memory.
func resident(t *testing.T) (total int) {
	t.Helper()
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?ms)^\w+-\w+ r-.. \w+ \S+ \d+ +`+regexp.QuoteMeta(exe)+`$.*?^Rss: +(\d+) kB`).FindAllSubmatch(smaps, -1) {
		n, err := strconv.Atoi(string(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	return total
}

// TestGiveBack: pages of the program are given back, and it runs on.
func TestGiveBack(t *testing.T) {
	before := resident(t)
	if before < 100 {
		t.Fatalf("%d KiB of the program are in memory: nothing to be seen", before)
	}
	if err := giveBack(); err != nil {
		t.Fatal(err)
	}
	if after := resident(t); after >= before {
		t.Errorf("%d KiB of the program are in memory, %d before", after, before)
	}
}

// TestSettle: not before the start is over, and not when the end is first.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		Settle(t.Context(), slog.New(slog.DiscardHandler))
		if took := time.Since(began); took != settleAfter {
			t.Errorf("after %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		Settle(ctx, slog.New(slog.DiscardHandler))
		if took := time.Since(began); took != settleAfter {
			t.Errorf("it waits %v when it ends", took)
		}
	})
}

func TestParseMapping(t *testing.T) {
	for line, want := range map[string]mapping{
		"00400000-00b14000 r-xp 00000000 fe:00 10012070                           /usr/bin/healthd":         {0x400000, 0xb14000, false, "/usr/bin/healthd"},
		"012bf000-012f0000 rw-p 00ebe000 fe:00 10012070                           /a dir/healthd (deleted)": {0x12bf000, 0x12f0000, true, "/a dir/healthd (deleted)"},
	} {
		if m, ok := parseMapping(line); !ok || m != want {
			t.Errorf("%s: %+v", line, m)
		}
	}
	for _, line := range []string{"", "x", "c000000000-c000400000 rw-p 00000000 00:00 0", "7ffd0000-7ffe0000 r-xp 00000000 00:00 0    [vdso]", "b-a r-xp 0 0 0 /x", "a-z r-xp 0 0 0 /x", "a-b r 0 0 0 /x"} {
		if m, ok := parseMapping(line); ok {
			t.Errorf("%q: %+v", line, m)
		}
	}
}
