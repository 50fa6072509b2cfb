package statuspage

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// browser is a Chromium without a window, driven through a pair of pipes: the DevTools
// protocol, JSON with NUL after each message (--remote-debugging-pipe).
type browser struct {
	t       *testing.T // of the subtest that drives it
	out     *os.File
	in      *bufio.Reader
	id      int
	session string
	loaded  string   // the loader of the last page that is loaded
	console []string // what the console and the network log complained of
}

// browserPatience is only to end a browser that hangs.
const browserPatience = 5 * time.Minute

func startBrowser(t *testing.T) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skipf("no browser (test/setup/apt.sh browser installs it): %v", err)
	}
	commands, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	in, answers, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), browserPatience)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-breakpad", "--force-color-profile=srgb",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-pipe")
	cmd.ExtraFiles = []*os.File{commands, answers} // 3 and 4
	// A group of its own, so that its helpers end with it. This process becomes their
	// parent when theirs has gone, so that it can wait for them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = commands.Close()
	_ = answers.Close()
	b := &browser{t: t, out: out, in: bufio.NewReader(in)}
	t.Cleanup(func() {
		_ = out.Close()
		_ = in.Close()
		endGroup(cmd)
	})
	b.attach()
	return b
}

// endGroup kills a process and its helpers, and returns when none of them can write to
// its profile any more. Each of them is a child of this process by the time that its
// parent has been waited for.
func endGroup(cmd *exec.Cmd) {
	group := -cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGKILL) // it may have ended by itself
	_ = cmd.Wait()
	for {
		if _, err := syscall.Wait4(group, nil, 0, nil); err != nil && err != syscall.EINTR {
			return // ECHILD: none is left
		}
	}
}

// attach opens a page and listens to it.
func (b *browser) attach() {
	b.t.Helper()
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.call(domain+".enable", nil, nil)
	}
	b.call("Page.setLifecycleEventsEnabled", map[string]any{"enabled": true}, nil)
}

type devtoolsMessage struct {
	ID     int             `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  json.RawMessage `json:"error,omitempty"`
}

// call sends a command and waits for its answer.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.id++
	message := map[string]any{"id": b.id, "method": method}
	if params != nil {
		message["params"] = params
	}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	text, err := json.Marshal(message)
	if err == nil {
		_, err = b.out.Write(append(text, 0))
	}
	if err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	for {
		m, err := b.next()
		if err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		if m.ID != b.id {
			continue
		}
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error)
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				b.t.Fatalf("%s: %v", method, err)
			}
		}
		return
	}
}

// next reads one message, and keeps complaints.
func (b *browser) next() (m devtoolsMessage, err error) {
	text, err := b.in.ReadBytes(0)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(text[:len(text)-1], &m); err != nil {
		return m, err
	}
	switch m.Method {
	case "Page.lifecycleEvent":
		var event struct{ Name, LoaderID string }
		if err := json.Unmarshal(m.Params, &event); err != nil {
			return m, err
		}
		if event.Name == "load" {
			b.loaded = event.LoaderID
		}
	case "Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded":
		b.console = append(b.console, string(m.Params))
	case "Inspector.targetCrashed":
		return m, errors.New("the page crashed")
	}
	return m, nil
}

// open shows a page in a window of that size and waits until it is loaded.
func (b *browser) open(url string, width, height int, scheme string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	var navigation struct{ LoaderID, ErrorText string }
	b.call("Page.navigate", map[string]any{"url": url}, &navigation)
	if navigation.ErrorText != "" {
		b.t.Fatalf("open %s: %s", url, navigation.ErrorText)
	}
	for b.loaded != navigation.LoaderID { // that of about:blank may come late
		if _, err := b.next(); err != nil {
			b.t.Fatalf("open %s: %v", url, err)
		}
	}
}

// eval sets result to the value of an expression.
func (b *browser) eval(expression string, result any) {
	b.t.Helper()
	var answer struct {
		Result struct {
			Value json.RawMessage
		}
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &answer)
	err := errors.New(string(answer.ExceptionDetails))
	if answer.ExceptionDetails == nil && answer.Result.Value == nil {
		return // undefined
	}
	if answer.ExceptionDetails == nil {
		err = json.Unmarshal(answer.Result.Value, result)
	}
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
}

// press presses and releases a key, and waits until the page shows what came of it.
func (b *browser) press(key, text string, code int) {
	b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code}, nil)
	}
	b.eval(`new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))`, new(int))
}

// screenshot returns what is in the window as a PNG.
func (b *browser) screenshot() []byte {
	b.t.Helper()
	var answer struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &answer)
	png, err := base64.StdEncoding.DecodeString(answer.Data)
	if err != nil {
		b.t.Fatal(fmt.Errorf("read screenshot: %w", err))
	}
	return png
}
