package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"sidecar/internal/cli"
	"sidecar/internal/gelf/gelftest"
)

// commands returns the root and every verb, also those of verbs.
func commands() []*cobra.Command {
	all := []*cobra.Command{newRoot(nil)}
	for i := 0; i < len(all); i++ {
		all = append(all, all[i].Commands()...)
	}
	return all
}

func TestHelpSaysWhatThereIs(t *testing.T) {
	for _, cmd := range commands() {
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			plain := cmd.Name() == "version" || cmd.Name() == "man" // one line says all
			if cmd.Short == "" || cmd.Long == "" && !plain {
				t.Errorf("no description")
			}
			if cmd.Example == "" && !plain {
				t.Errorf("no example")
			}
			for line := range strings.SplitSeq(cmd.Long, "\n") {
				if len(line) > 100 {
					t.Errorf("a line of %d bytes does not fit a terminal: %s", len(line), line)
				}
			}
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				if len(strings.Fields(f.Usage)) < 2 {
					t.Errorf("--%s: %q explains nothing", f.Name, f.Usage)
				}
			})
			var out strings.Builder
			if code := run(append(strings.Fields(cmd.CommandPath())[1:], "--help"), nil, &out, &out); cmd.HasParent() && code != cli.ExitOK {
				t.Errorf("help ends with %d: %s", code, &out)
			}
		})
	}
}

// TestHelpExamples runs every example of the help texts.
func TestHelpExamples(t *testing.T) {
	// Examples of what goes on until it is stopped, and what they print when they
	// work; all others end by themselves.
	services := map[string]string{
		"logship run --config logship.toml":                                                                    `msg=ship `,
		"logship receive --tcp 127.0.0.1:12201":                                                                `listening for GELF on tcp`,
		"logship receive --tcp 127.0.0.1:12201 --file messages.jsonl --quiet":                                  `listening for GELF on tcp`,
		"logship receive --tcp 127.0.0.1:12201 --udp 127.0.0.1:12201 --http 127.0.0.1:12202 --json --count 10": `listening for GELF on http`,
	}
	journalDir := writeJournal(t)
	seen := map[string]bool{}
	for _, cmd := range commands() {
		for example := range strings.Lines(cmd.Example) {
			example = strings.TrimSpace(example)
			t.Run(example, func(t *testing.T) {
				ready, isService := services[example]
				runExample(t, example, journalDir, isService, ready)
			})
			seen[example] = true
		}
	}
	for example := range services {
		if !seen[example] {
			t.Errorf("no help text has the example %q", example)
		}
	}
}

// runExample runs one example in a directory with what the examples name.
func runExample(t *testing.T, example, journalDir string, isService bool, ready string) {
	graylog := startGraylog(t)
	input := graylog.input
	dir := t.TempDir()
	const cursor = "s=2fe57dfae506401ebff12a05f8d89b89;i=5;b=0123456789abcdef0123456789abcdef;m=138c;t=65bfeda25e004;x=9b11f5860284ee0d"
	database, err := os.ReadFile("../../internal/takeover/testdata/fluent-bit.db")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"logship.toml": fmt.Sprintf("output.url = \"gelf+tcp://%s\"\ninput.journald.directory = %q\nstate.dir = \"state\"\nmetrics.listen = \"127.0.0.1:0\"\n", input, journalDir),
		"rsyslog.conf": "*.* @@graylog.example.com:514\n",
		"app.log":      "_jsonrc:{\"level\":\"info\",\"message\":\"hi\"}\nplain\n",
		"bin/app":      "#!/bin/sh\ncat app.log\n",

		"state/dlq.jsonl": `{"time":"2026-11-17T08:15:30Z","reason":"receiver rejects a message","message":{"host":"h","short_message":"m"}}` + "\n",
		"types.txt":       "logship-types 1\namount string\n",
		"web-01.txt":      "logship-types 1\namount number\n",
		"web-02.txt":      "logship-types 1\namount string\n",

		"var/lib/vector/journal/checkpoint.txt":        cursor + "\n",
		"var/spool/rsyslog/imjournal.state":            cursor,
		"var/lib/fluent-bit/journal.db":                string(database),
		"var/lib/filebeat/registry/filebeat/meta.json": `{"version":"1"}`,
		"var/lib/filebeat/registry/filebeat/1.json":    `[{"_key":"journald::LOCAL_SYSTEM_JOURNAL","cursor":{"position":"` + cursor + `"}}]`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	example = strings.ReplaceAll(example, " /var/", " var/")
	writeSpool(t, filepath.Join(dir, "spool"))
	// The ports of the examples may be taken on the machine of the test.
	example = strings.ReplaceAll(example, "gelf+tcp://127.0.0.1:12201", "gelf+tcp://"+input)
	example = strings.ReplaceAll(example, "http://127.0.0.1:9000/api", graylog.api)
	example = regexp.MustCompile(`127\.0\.0\.1:1220[12]`).ReplaceAllString(example, "127.0.0.1:0")
	if isService {
		example = "exec " + example // the exit code is then that of logship
	}
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", example)
	output := newLines()
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, output, output
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0",
		"LOGSHIP_OUTPUT__URL=gelf+tcp://"+input, "LOGSHIP_INPUT__JOURNALD__DIRECTORY="+journalDir, "LOGSHIP_STATE__DIR=state")
	// As from a terminal, the shell and what it runs get the signal.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if isService {
		if output.await(regexp.MustCompile(ready)) == nil {
			t.Errorf("no line like %q", ready)
		}
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
			t.Error(err)
		}
	}
	differs := strings.HasPrefix(example, "logship types diff") // that is what it is for, exit code 1
	if err := cmd.Wait(); err != nil && (!differs || cmd.ProcessState.ExitCode() != cli.ExitFailed) {
		t.Errorf("%v: %s", err, output)
	}
	if len(output.String()) == 0 && !strings.Contains(example, ">") {
		t.Error("it prints nothing")
	}
}

// TestStackOnStandardInput: its lines are one message, whether the input ends with the
// process or goes through the spool.
func TestStackOnStandardInput(t *testing.T) {
	const stack = "Error: x\n    at one (a.js:1:2)"
	for name, args := range map[string][]string{"job": {"--stdin"}, "spool": {"--set", "input.stdin.enabled=true", "--set", "input.journald.enabled=false"}} {
		t.Run(name, func(t *testing.T) {
			log := gelftest.NewLog("full_message")
			input := gelftest.Start(t, gelftest.Options{TCP: "127.0.0.1:0", Sink: log.Add}).Addr("tcp")
			state := t.TempDir()
			args := append([]string{"run", "--set", "output.url=gelf+tcp://" + input, "--set", "metrics.listen=", "--set", "state.dir=" + state}, args...)
			cmd := exec.CommandContext(t.Context(), "logship", args...)
			cmd.Dir, cmd.Stdin = t.TempDir(), strings.NewReader("one\n"+stack+"\ntwo\n")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("run ended with %v\n%s", err, out)
			}
			full := map[string]int{}
			for _, m := range log.Messages() {
				full[m.Values[0]]++
			}
			if full[stack] != 1 {
				t.Errorf("full messages %v", full)
			}
		})
	}
}

// TestRunSurvivesItsLog: a write to a log that nobody reads must not end what
// still has lines to ship.
func TestRunSurvivesItsLog(t *testing.T) {
	log := gelftest.NewLog()
	input := gelftest.Start(t, gelftest.Options{TCP: "127.0.0.1:0", Sink: log.Add}).Addr("tcp")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	cmd := exec.CommandContext(t.Context(), "logship", "run", "--stdin", "--set", "output.url=gelf+tcp://"+input, "--set", "metrics.listen=")
	cmd.Dir, cmd.Stderr = t.TempDir(), w
	cmd.Stdin = strings.NewReader("one\ntwo\n")
	if err := cmd.Run(); err != nil {
		t.Errorf("run ended with %v", err)
	}
	if n := len(log.Messages()); n != 2 {
		t.Errorf("%d messages arrived, want 2", n)
	}
}
