package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"

	"sidecar/internal/cli"
	"sidecar/internal/settings"
	"sidecar/internal/statuspage"
)

// historyDir is where the history is, below the state directory.
const historyDir = "history"

// newPage returns the status page, nil if it is switched off.
func newPage(c *Config, log *slog.Logger) (*statuspage.Page, error) {
	if !c.Status.Enabled {
		return nil, nil
	}
	return statuspage.New(statuspage.Options{
		Title: c.Status.Title, Home: c.Status.Home, Intro: c.Status.Intro, URL: c.Status.URL,
		HistoryDir: filepath.Join(c.stateDir(), historyDir), IncidentsDir: c.Status.Incidents, StaticDir: c.Status.Static,
		Logger: log,
	})
}

// checkStatus returns what is wrong with [status].
func (c *Config) checkStatus(e *settings.Effective) []error {
	var errs []error
	page := func(key, value, otherwise string) {
		u, err := url.Parse(value)
		if value != otherwise && (err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
			errs = append(errs, e.Errorf(key, "want the address of a page, such as https://www.example.com/, or %q, found %q", otherwise, value))
		}
	}
	page("status.home", c.Status.Home, "")
	page("status.url", c.Status.URL, statuspage.DefaultURL)
	directory := func(key, value string) {
		if value != "" && !filepath.IsAbs(value) {
			errs = append(errs, e.Errorf(key, "want an absolute path, found %q", value))
		}
	}
	directory("status.incidents", c.Status.Incidents)
	directory("status.static", c.Status.Static)
	return errs
}

// checkPage adds to a report what the status page needs. It changes nothing.
func checkPage(r *cli.Report, c *Config) {
	if dir := c.Status.Incidents; c.Status.Enabled && dir != "" {
		n, err := checkIncidents(dir)
		r.Add("incidents", err, fmt.Sprintf("%d in %s", n, dir))
	}
	if dir := c.Status.Static; c.Status.Enabled && dir != "" {
		found, err := cli.CheckDirectory(dir)
		if err != nil {
			err = fmt.Errorf("write static files: %w; set status.static to a directory that this user may write to (in a unit: ReadWritePaths=%s)", err, dir)
		}
		r.Add("static files", err, found)
	}
}

// checkIncidents returns how many incidents are shown, and what is wrong with others. A
// directory that is not there is wrong too: nobody would see what is written.
func checkIncidents(dir string) (int, error) {
	if _, err := os.Stat(dir); err != nil {
		return 0, fmt.Errorf("read incidents: %w; make it, or set status.incidents to another directory", err)
	}
	all, problems := statuspage.ReadIncidents(os.DirFS(dir))
	return len(all), errors.Join(problems...)
}
