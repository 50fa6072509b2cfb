// Package browser looks at pages with a real one, for tests: a Chromium without a
// window, driven through a pair of pipes by the DevTools protocol, JSON with NUL after
// each message (--remote-debugging-pipe). It knows no page; what is done beyond these few
// commands goes through Call.
package browser

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Browser is a Chromium with one page. It is for one goroutine.
type Browser struct {
	// TB is the test that drives it: the one that started it, or a subtest of that.
	// Whatever goes wrong fails it.
	TB testing.TB
	// Console is what the console and the network log complained of, as JSON.
	Console []string

	out     *os.File
	in      *bufio.Reader
	id      int
	session string
	loaded  string // the loader of the last page that is loaded
}

// patience is only to end a browser that hangs.
const patience = 5 * time.Minute

// Start returns a browser that ends with the test, with all its helpers. through is the
// beginning of the command line if the browser is to be run by another program, such as
// nsenter, which has to become it. Without a Chromium the test is skipped.
func Start(tb testing.TB, through ...string) *Browser {
	tb.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		tb.Skipf("no browser (test/setup/apt.sh browser installs it): %v", err)
	}
	commands, out, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	in, answers, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	tb.Cleanup(cancel)
	args := append(slices.Clip(through), program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-breakpad", "--force-color-profile=srgb",
		"--user-data-dir="+tb.TempDir(), "--remote-debugging-pipe")
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.ExtraFiles = []*os.File{commands, answers} // 3 and 4
	// A group of its own, so that its helpers end with it. This process becomes their
	// parent when theirs has gone, so that it can wait for them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	_ = commands.Close()
	_ = answers.Close()
	b := &Browser{TB: tb, out: out, in: bufio.NewReader(in)}
	tb.Cleanup(func() {
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
func (b *Browser) attach() {
	b.TB.Helper()
	var target struct{ TargetID string }
	b.Call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.Call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log"} {
		b.Call(domain+".enable", nil, nil)
	}
	b.Call("Page.setLifecycleEventsEnabled", map[string]any{"enabled": true}, nil)
}

type devtoolsMessage struct {
	ID     int             `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  json.RawMessage `json:"error,omitempty"`
}

// Call sends a command of the DevTools protocol and waits for its answer. params are
// nil or what becomes a JSON object, result is nil or what that of the answer is read
// into.
func (b *Browser) Call(method string, params, result any) {
	b.TB.Helper()
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
		b.TB.Fatalf("%s: %v", method, err)
	}
	for {
		m, err := b.next()
		if err != nil {
			b.TB.Fatalf("%s: %v", method, err)
		}
		if m.ID != b.id {
			continue
		}
		if m.Error != nil {
			b.TB.Fatalf("%s: %s", method, m.Error)
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				b.TB.Fatalf("%s: %v", method, err)
			}
		}
		return
	}
}

// next reads one message, and keeps complaints.
func (b *Browser) next() (m devtoolsMessage, err error) {
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
		b.Console = append(b.Console, string(m.Params))
	case "Inspector.targetCrashed":
		return m, errors.New("the page crashed")
	}
	return m, nil
}

// Open shows a page in a window of that size, in pixels, and waits until it is loaded.
// Below a width of 600 it is that of a phone. scheme is "light" or "dark".
func (b *Browser) Open(url string, width, height int, scheme string) {
	b.TB.Helper()
	b.Call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	b.Call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	var navigation struct{ LoaderID, ErrorText string }
	b.Call("Page.navigate", map[string]any{"url": url}, &navigation)
	if navigation.ErrorText != "" {
		b.TB.Fatalf("open %s: %s", url, navigation.ErrorText)
	}
	for b.loaded != navigation.LoaderID { // that of about:blank may come late
		if _, err := b.next(); err != nil {
			b.TB.Fatalf("open %s: %v", url, err)
		}
	}
}

// Eval sets what result points to to the value of an expression in JavaScript, or of its
// promise; undefined leaves it as it is.
func (b *Browser) Eval(expression string, result any) {
	b.TB.Helper()
	var answer struct {
		Result struct {
			Value json.RawMessage
		}
		ExceptionDetails json.RawMessage
	}
	b.Call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &answer)
	err := errors.New(string(answer.ExceptionDetails))
	if answer.ExceptionDetails == nil && answer.Result.Value == nil {
		return // undefined
	}
	if answer.ExceptionDetails == nil {
		err = json.Unmarshal(answer.Result.Value, result)
	}
	if err != nil {
		b.TB.Fatalf("%s: %v", expression, err)
	}
}

// Press presses and releases a key, and waits until the page shows what came of it. key
// is its name ("Tab"), text what it types, code its virtual key code (MDN "keyCode").
func (b *Browser) Press(key, text string, code int) {
	b.TB.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.Call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": key, "code": key, "text": text, "windowsVirtualKeyCode": code}, nil)
	}
	b.Eval(`new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))`, new(int))
}

// Screenshot returns what is in the window as a PNG.
func (b *Browser) Screenshot() []byte {
	b.TB.Helper()
	var answer struct{ Data string }
	b.Call("Page.captureScreenshot", map[string]any{"format": "png"}, &answer)
	png, err := base64.StdEncoding.DecodeString(answer.Data)
	if err != nil {
		b.TB.Fatal(fmt.Errorf("read screenshot: %w", err))
	}
	return png
}
