package machine

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Do runs a command in the machine to its end, as a step of a test, and returns
// what it printed, without white space around it. If the command fails, so does the
// test, with all that it printed and what Options.Diagnose shows.
func (m *Machine) Do(tb testing.TB, args ...string) string {
	tb.Helper()
	stdout, stderr, err := m.Run(tb.Context(), args[0], args[1:]...)
	if err != nil {
		tb.Fatalf("%s: %v\n%s%s\n%s", strings.Join(args, " "), err, stdout, stderr, m.diagnose(tb))
	}
	return strings.TrimSpace(stdout)
}

// Await calls done every 50 ms until it returns true. After timeout the test fails
// with the last state that done has told, and what Options.Diagnose shows.
func (m *Machine) Await(tb testing.TB, timeout time.Duration, done func() (ok bool, state string)) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), timeout)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, state := done()
		if ok {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			tb.Fatalf("after %v: %s\n%s", timeout, state, m.diagnose(tb))
		}
	}
}

// diagnose returns what Options.Diagnose prints, also when the test's time is over.
func (m *Machine) diagnose(tb testing.TB) string {
	ctx, cancel := withDefaultTimeout(context.WithoutCancel(tb.Context()))
	defer cancel()
	stdout, _, _ := m.Run(ctx, "sh", "-c", m.opts.Diagnose)
	return stdout
}

// Samples returns the samples of an exposition in the Prometheus text format, which
// the machine serves at a URL, by what stands before the value: the metric's name and
// its labels as they are written.
func (m *Machine) Samples(tb testing.TB, url string) map[string]float64 {
	tb.Helper()
	samples := map[string]float64{}
	for line := range strings.Lines(m.Do(tb, "curl", "--silent", "--show-error", "--fail", url)) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if i < 0 || line[0] == '#' {
			continue
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			tb.Fatalf("read the sample %q: %v", line, err)
		}
		samples[line[:i]] = v
	}
	return samples
}

// Build returns the path of logship's binary, made as it is shipped: static, and
// with the profile of its hot path. It is removed after the test.
func Build(tb testing.TB) string {
	tb.Helper()
	return BuildCommand(tb, "logship")
}

// BuildCommand is Build for any of the commands, by its name below cmd.
func BuildCommand(tb testing.TB, name string) string {
	tb.Helper()
	bin := filepath.Join(tb.TempDir(), name)
	cmd := exec.CommandContext(tb.Context(), "go", "build", "-trimpath", "-o", bin, "sidecar/cmd/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// Block is a fenced block of a page of the documentation.
type Block struct {
	// Headings are the lines above it ("### Install it"), from the title of the page
	// down to that of its section.
	Headings []string
	// Language is what stands behind the opening fence.
	Language string
	// Text has a newline at the end of each line.
	Text string
}

// Blocks returns the fenced blocks of a page of the documentation, in their order: what
// operators are told to type is what tests run.
func Blocks(tb testing.TB, page string) []Block {
	tb.Helper()
	data, err := os.ReadFile(page)
	if err != nil {
		tb.Fatal(err)
	}
	var blocks []Block
	var headings []string
	inside := false
	for line := range strings.Lines(string(data)) {
		language, fence := strings.CutPrefix(strings.TrimRight(line, "\n"), "```")
		level := strings.IndexByte(line, ' ')
		switch {
		case fence && !inside:
			blocks = append(blocks, Block{Headings: slices.Clone(headings), Language: language})
			inside = true
		case fence && language == "":
			inside = false
		case inside:
			blocks[len(blocks)-1].Text += line
		case level > 0 && strings.Trim(line[:level], "#") == "":
			headings = slices.DeleteFunc(headings, func(h string) bool { return strings.IndexByte(h, ' ') >= level })
			headings = append(headings, strings.TrimRight(line, "\n"))
		}
	}
	return blocks
}

// Example returns the blocks in a language of a section of a page, one after the other.
// heading is the line above the section, which ends at the next heading of its level or
// above. A section without such a block fails the test.
func Example(tb testing.TB, page, heading, language string) string {
	tb.Helper()
	var example string
	for _, block := range Blocks(tb, page) {
		if block.Language == language && slices.Contains(block.Headings, heading) {
			example += block.Text
		}
	}
	if example == "" {
		tb.Fatalf("%s has no example of %s under %q", page, language, heading)
	}
	return example
}
