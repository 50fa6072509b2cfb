package main

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/prometheus/exporter-toolkit/web"

	"sidecar/internal/cli"
	"sidecar/internal/probe"
	"sidecar/internal/promtext"
	"sidecar/internal/scrape"
)

// addMetrics adds the metrics of a worker to what is scraped.
func (p *planner) addMetrics(a app, w worker, bad func(key, text string)) {
	if w.metrics == "" {
		if len(a.sum) > 0 {
			bad(".sum", "sums are made of metrics, and there is no place of them")
		}
		return
	}
	t := scrape.Target{App: a.name, Worker: w.name, Lenient: p.c.Metrics.Lenient}
	text, err := metricsURL(w)
	if err == nil {
		t.Page, err = probe.ParsePage(text, []string{"mode"}, p.env)
	}
	if err != nil {
		bad(".metrics", err.Error())
		return
	}
	switch mode, given := t.Page.Options["mode"]; {
	case given && mode != "strict" && mode != "lenient":
		bad(".metrics", fmt.Sprintf("mode %q: want strict or lenient", mode))
	case given:
		t.Lenient = mode == "lenient"
	}
	if t.Sum, err = parseSum(a.sum); err != nil {
		bad(".sum", err.Error())
	}
	p.metrics = append(p.metrics, t)
}

// metricsURL returns the whole text of where a worker has its metrics, which may be
// written as a path on the server of its first check over HTTP.
func metricsURL(w worker) (string, error) {
	if !strings.HasPrefix(w.metrics, "/") {
		return w.metrics, nil
	}
	i := slices.IndexFunc(w.checks, func(c string) bool { return strings.HasPrefix(c, "http://") || strings.HasPrefix(c, "https://") })
	if i < 0 {
		return "", fmt.Errorf("metrics %q: a path is on the server of the first check over http, and there is none", w.metrics)
	}
	check, options, _ := strings.Cut(w.checks[i], "#")
	u, err := url.Parse(check)
	if err != nil {
		return "", fmt.Errorf("metrics %q: the first check over http is no URL", w.metrics)
	}
	path, own, _ := strings.Cut(w.metrics, "#")
	var all []string
	for option := range strings.SplitSeq(options, "&") {
		// How to connect is the same for both.
		name, _, _ := strings.Cut(option, "=")
		if slices.Contains([]string{"socket", "host", "ca", "verify", "name"}, name) || strings.HasPrefix(name, "header.") {
			all = append(all, option)
		}
	}
	if own != "" {
		all = append(all, own)
	}
	text := u.Scheme + "://" + u.Host + path
	if len(all) > 0 {
		text += "#" + strings.Join(all, "&")
	}
	return text, nil
}

// promClient stands for the rules for what prom-client collects by default.
const promClient = "prom-client"

// parseSum reads families to sum: "jobs_total", "jobs_*", "open:live_sum" or
// "prom-client". The first that is for a family counts.
func parseSum(texts []string) (rules []promtext.Rule, err error) {
	for _, text := range texts {
		if text == promClient {
			rules = append(rules, promtext.PromClientRules()...)
			continue
		}
		// The last colon is that of the mode: names have one only where they were made by
		// a rule of Prometheus.
		family, word := text, promtext.Sum.String()
		if i := strings.LastIndexByte(text, ':'); i >= 0 {
			family, word = text[:i], text[i+1:]
		}
		mode, ok := promtext.ParseMode(word)
		if !ok {
			return nil, fmt.Errorf("sum %q: %q is no mode: want sum, min, max, average, those with live_ before them, first, omit or labelled", text, word)
		}
		if !isFamily(family) {
			return nil, fmt.Errorf("sum %q: want the name of a family of metrics, with * at its end for all that begin so, and :mode, such as jobs_total or open:live_sum", text)
		}
		rules = append(rules, promtext.Rule{Family: family, Mode: mode})
	}
	return rules, nil
}

// isFamily reports whether a text is a name of metrics, or the beginning of one and *.
func isFamily(text string) bool {
	name := strings.TrimSuffix(text, "*")
	return text != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:") == "" &&
		(name == "" || name[0] < '0' || name[0] > '9')
}

// limits returns what one target may have.
func (c *Config) limits() promtext.Limits {
	m := c.Metrics
	return promtext.Limits{PageBytes: int64(m.MaxBytes), Series: m.MaxSeries, NewSeries: m.MaxNewSeries, Labels: m.MaxLabels,
		NameBytes: m.MaxNameBytes, ValueBytes: m.MaxValueBytes}
}

// landing returns the page that leads to all the others.
func (w *watcher) landing() http.Handler {
	page, err := web.NewLandingPage(web.LandingConfig{Name: "healthd", Description: "One /health, one status page and one /metrics for all services of this machine.",
		Version: cli.Version(), Profiling: "false", Links: []web.LandingLinks{
			{Address: "/metrics", Text: "Metrics", Description: "of all services, and of healthd"},
			{Address: discoveryPath, Text: "Targets for Prometheus", Description: "as http_sd: each service by itself, at /targets/NAME/WORKER/metrics"},
			{Address: targetsPath, Text: "Targets", Description: "what is watched, and what is wrong with it"},
			{Address: fullPath, Text: "Health", Description: "of everything, with the reasons"},
			{Address: "/healthz", Text: "Liveness", Description: "of healthd itself"},
			{Address: "/readyz", Text: "Readiness", Description: "of healthd itself"},
		}})
	if err != nil {
		w.log.Error("there is no index of the private listener", "err", err)
		return http.NotFoundHandler()
	}
	return page
}

// checkWeb returns what is wrong with the web configuration file of the private
// listener.
func (c *Config) checkWeb() error {
	if c.Private.Web == "" {
		return nil
	}
	if err := web.Validate(c.Private.Web); err != nil {
		return cli.WithCode(cli.ExitConfig, fmt.Errorf("read private.web: %w", err))
	}
	return nil
}

// secured returns how the private listener is served: with TLS and passwords if the
// configuration says so.
func (r *runner) secured() func(*http.Server, net.Listener) error {
	if r.c.Private.Web == "" {
		return nil
	}
	return func(s *http.Server, l net.Listener) error {
		return web.Serve(l, s, &web.FlagConfig{WebConfigFile: &r.c.Private.Web}, r.log)
	}
}
