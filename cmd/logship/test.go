package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"sidecar/internal/cli"
	"sidecar/internal/gelf"
	"sidecar/internal/record"
	"sidecar/internal/settings"
)

// testFile is a file of tests for a configuration.
type testFile struct {
	Test []testCase `toml:"test"`
}

// testCase is one [[test]]: a line, or an entry of the journal, and what must
// become of it.
type testCase struct {
	Name     string               `toml:"name"`
	Line     string               `toml:"line"`
	Entry    testEntry            `toml:"entry"`
	Received string               `toml:"received"`
	Expect   map[string]testValue `toml:"expect"`
	Absent   []string             `toml:"absent"`
	Drop     bool                 `toml:"drop"`
	Messages int                  `toml:"messages"`

	at       settings.Origin // of the name
	received int64           // microseconds since the Unix epoch, 0 if unknown
	priority int8            // of Entry, -1 if unknown
}

// testEntry is what a source knows about a message.
type testEntry struct {
	Message    string    `toml:"message"`
	Unit       string    `toml:"unit"`
	Identifier string    `toml:"identifier"`
	Priority   testValue `toml:"priority"`
	Host       string    `toml:"host"`
	PID        testValue `toml:"pid"`
	Transport  string    `toml:"transport"`
}

// testValue is a text or a whole number, compared as text.
type testValue string

// UnmarshalText takes any text.
func (v *testValue) UnmarshalText(text []byte) error {
	*v = testValue(text)
	return nil
}

// MarshalText returns the text.
func (v testValue) MarshalText() ([]byte, error) { return []byte(v), nil }

func newTest(flags *configFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "test FILE...",
		Short: "Test what the configuration makes of lines",
		Long: `test takes lines from files, lets the configuration make messages of them as run would
(prefixes, aliases, rules, redaction, static fields), and compares these with what the files expect:

  [[test]]
  name = "health checks are dropped"
  line = '_jsonrc:{"message":"GET /health"}'
  entry = { unit = "nginx" }         # also identifier, priority, host, pid, transport,
                                     # and message, instead of line
  received = "2026-11-17T08:15:30Z"  # left out: every timestamp is believed, and nothing is limited
  drop = true                        # nothing is shipped; or any of:
  expect = { level = 6, _team = "web" }  # in the first message, among others
  absent = ["_password"]             # in the first message
  messages = 1                       # how many there are

It prints one line for each difference. Exit code 1: there are some; 78: a file is wrong.`,
		Example: `  echo 'test = [{ name = "hi", line = "hi", expect = { short_message = "hi" } }]' > tests.toml && logship test tests.toml`,
		Args:    cli.Usage(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.WithCode(cli.ExitUsage, errors.New("name a file of tests (see logship test --help)"))
			}
			c, _, err := flags.load()
			if err != nil {
				return err
			}
			var cases []testCase
			var errs []error
			for _, name := range args {
				read, err := readTests(name)
				cases, errs = append(cases, read...), append(errs, err)
			}
			if err := errors.Join(errs...); err != nil {
				return err
			}
			return runTests(cmd.OutOrStdout(), c, cases)
		},
	}
}

// readTests reads a file of tests; the error joins all mistakes in it.
func readTests(name string) ([]testCase, error) {
	if info, err := os.Stat(name); err != nil || info.IsDir() {
		return nil, cli.WithCode(cli.ExitConfig, fmt.Errorf("read %s: %s", name, statReason(err)))
	}
	var f testFile
	// settings gives lines and suggestions; other layers than the file are not there.
	effective, err := settings.Load(&f, settings.Options{App: "logship-test", File: name, Open: func(path string) (fs.File, error) {
		if path != name {
			return nil, fs.ErrNotExist
		}
		return os.Open(path)
	}})
	if err != nil {
		return nil, err
	}
	if len(f.Test) == 0 {
		return nil, cli.WithCode(cli.ExitConfig, fmt.Errorf("read %s: it has no [[test]]", name))
	}
	var errs []error
	for i := range f.Test {
		errs = append(errs, f.Test[i].check(effective, fmt.Sprintf("test[%d].", i)))
	}
	return f.Test, errors.Join(errs...)
}

func statReason(err error) string {
	var path *fs.PathError
	switch {
	case err == nil:
		return "it is a directory; name a file"
	case errors.As(err, &path):
		return path.Err.Error()
	}
	return err.Error()
}

// check completes t and returns what is wrong with it. key is that of t.
func (t *testCase) check(e *settings.Effective, key string) error {
	var errs []error
	bad := func(name, format string, args ...any) { errs = append(errs, e.Errorf(key+name, format, args...)) }
	given := func(name string) bool {
		_, origin, err := e.Explain(key + name)
		return err == nil && origin.Layer == settings.File
	}
	_, t.at, _ = e.Explain(key + "name")
	if t.Name == "" {
		bad("name", "it has no name: give it one, for the report")
	}
	if given("line") == given("entry.message") {
		bad("line", "want a line, or the message of an entry, and not both")
	}
	if t.Drop && (len(t.Expect) > 0 || len(t.Absent) > 0 || given("messages")) {
		bad("drop", "what is dropped has no messages: leave out drop, or expect, absent and messages")
	}
	if !t.Drop && len(t.Expect) == 0 && len(t.Absent) == 0 && !given("messages") {
		bad("expect", "nothing is expected: add expect, absent, messages or drop = true")
	}
	if given("messages") && t.Messages < 1 {
		bad("messages", "want 1 or more, found %d; for none write drop = true", t.Messages)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Expect)) {
		if !isGELFName(name) {
			bad("expect", "%q is not in any message: additional fields begin with an underscore, such as _%s", name, name)
		}
	}
	for _, name := range t.Absent {
		if !isGELFName(name) {
			bad("absent", "%q is not in any message: additional fields begin with an underscore, such as _%s", name, name)
		}
	}
	var err error
	if t.received, err = receiveTime(t.Received); err != nil {
		bad("received", "%s", strings.TrimPrefix(err.Error(), "--received "))
	}
	t.priority = -1
	if p := t.Entry.Priority; p != "" {
		n, err := strconv.ParseUint(string(p), 10, 8)
		if err != nil || n > 7 {
			bad("entry.priority", "want 0 to 7, found %q", p)
		}
		t.priority = int8(n & 7)
	}
	return errors.Join(errs...)
}

// isGELFName reports whether a key can be in a message that logship makes.
func isGELFName(name string) bool {
	switch name {
	case "version", "host", "short_message", "full_message", "timestamp", "level":
		return true
	}
	return strings.HasPrefix(name, "_")
}

// runTests prints the differences and how many tests passed.
func runTests(w io.Writer, c *Config, cases []testCase) error {
	v := testVerb{c}
	failed := 0
	for i := range cases {
		t := &cases[i]
		messages, err := v.messages(t)
		if err != nil {
			return err
		}
		differences := t.compare(messages)
		for _, d := range differences {
			fmt.Fprintln(w, cli.Printable(fmt.Sprintf("%s: %s: %s", t.at, t.Name, d)))
		}
		if len(differences) > 0 {
			failed++
		}
	}
	if failed > 0 {
		return cli.WithCode(cli.ExitFailed, fmt.Errorf("%d of %d tests failed", failed, len(cases)))
	}
	_, err := fmt.Fprintf(w, "all passed: %d\n", len(cases))
	return err
}

type testVerb struct {
	config *Config
}

// message is a GELF message by its keys.
type message map[string]json.RawMessage

// messages returns what is shipped for the entry of t. The tests do not know of
// each other: every one has a limit of its own.
func (v *testVerb) messages(t *testCase) ([]message, error) {
	pipeline, err := v.config.pipeline()
	if err != nil {
		return nil, err
	}
	e := t.entry()
	records, _ := pipeline.Records(nil, &e)
	var messages []message
	for i := range records {
		m := message{}
		if err := json.Unmarshal(gelf.Append(nil, &records[i], &pipeline.GELF), &m); err != nil {
			return nil, fmt.Errorf("our own message is not JSON, please report it: %w", err)
		}
		messages = append(messages, m)
	}
	return messages, nil
}

// entry returns what a source would deliver.
func (t *testCase) entry() record.Entry {
	o := &t.Entry
	unit := o.Unit
	if unit != "" && !strings.Contains(unit, ".") {
		unit += ".service"
	}
	return record.Entry{Message: []byte(t.Line + o.Message), TimeUsec: t.received, Priority: t.priority,
		Host: []byte(o.Host), Identifier: []byte(o.Identifier), Unit: []byte(unit), PID: []byte(o.PID), Transport: []byte(o.Transport)}
}

// compare returns the differences between what is shipped and what is expected.
func (t *testCase) compare(messages []message) (differences []string) {
	differ := func(format string, args ...any) { differences = append(differences, fmt.Sprintf(format, args...)) }
	if t.Drop {
		for _, m := range messages {
			differ("want nothing, got a message %q", m.text("short_message"))
		}
		return differences
	}
	if len(messages) == 0 {
		differ("want a message, got none")
		return differences
	}
	if t.Messages > 0 && len(messages) != t.Messages {
		differ("messages: want %d, got %d", t.Messages, len(messages))
	}
	first := messages[0]
	for _, name := range slices.Sorted(maps.Keys(t.Expect)) {
		want, got := string(t.Expect[name]), first.text(name)
		if _, there := first[name]; !there {
			differ("%s: want %q, got nothing", name, want)
		} else if got != want {
			differ("%s: want %q, got %q", name, want, got)
		}
	}
	for _, name := range t.Absent {
		if _, there := first[name]; there {
			differ("%s: want nothing, got %q", name, first.text(name))
		}
	}
	return differences
}

// text returns a string's text, or a number as it is.
func (m message) text(name string) string {
	var s string
	if json.Unmarshal(m[name], &s) == nil {
		return s
	}
	return string(m[name])
}
