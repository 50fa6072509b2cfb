package ship

import (
	"github.com/prometheus/client_golang/prometheus"

	"sidecar/internal/gelf"
	"sidecar/internal/guard"
	"sidecar/internal/parse"
	"sidecar/internal/record"
	"sidecar/internal/redact"
	"sidecar/internal/rules"
)

// Pipeline is what becomes of an entry on its way from a source to an output.
// It is for one goroutine.
type Pipeline struct {
	Parser *parse.Parser
	// Rules, Redactor and Guard are applied in this order; nil leaves the step
	// out. Rules see what the line says, so that they can match it; nothing behind
	// the Redactor does.
	Rules    *rules.Rules
	Redactor *redact.Redactor
	Guard    *guard.Guard
	GELF     gelf.Options
}

// Records appends the records that e becomes to dst and returns it. left is how
// many were left out by a rule or a limit. Memory is that of parse.Parser.Parse.
func (p *Pipeline) Records(dst []record.Record, e *record.Entry) (_ []record.Record, left int) {
	first := len(dst)
	dst = p.Parser.Parse(dst, e)
	kept := first
	for i := first; i < len(dst); i++ {
		if p.Rules != nil && !p.Rules.Apply(e, &dst[i]) {
			continue
		}
		p.finish(&dst[i])
		// Swapped, not copied: the memory of what is left out is reused too.
		dst[kept], dst[i] = dst[i], dst[kept]
		kept++
	}
	return dst[:kept], len(dst) - kept
}

// finish is what happens to a record after the rules.
func (p *Pipeline) finish(r *record.Record) {
	if p.Redactor != nil {
		p.Redactor.Apply(r)
	}
	if p.Guard != nil {
		p.Guard.Apply(r)
	}
}

// Describe implements prometheus.Collector.
func (p *Pipeline) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(p, ch) }

// Collect implements prometheus.Collector. It may be called by any goroutine.
func (p *Pipeline) Collect(ch chan<- prometheus.Metric) {
	metric := func(kind prometheus.ValueType, v uint64, name, help string, labels, values []string) {
		ch <- prometheus.MustNewConstMetric(prometheus.NewDesc("logship_"+name, help, labels, nil), kind, float64(v), values...)
	}
	if p.Rules != nil {
		for _, c := range p.Rules.Counts(nil) {
			metric(prometheus.CounterValue, c.Records, "rule_records_total", "Messages that a rule changed or left out, or the limit left out.",
				[]string{"rule", "action"}, []string{c.Rule, c.Reason})
		}
	}
	if p.Redactor != nil {
		for name, n := range p.Redactor.Counts() {
			metric(prometheus.CounterValue, n, "redacted_total", "Secrets taken out of messages.", []string{"rule"}, []string{name})
		}
	}
	if p.Guard != nil {
		c := p.Guard.Counts()
		metric(prometheus.GaugeValue, c.Names, "type_names", "Names of fields whose type is known.", nil, nil)
		const help = "Values that did not fit the type of their field, by what became of them."
		metric(prometheus.CounterValue, c.Diverted, "type_conflicts_total", help, []string{"fate"}, []string{"moved"})
		metric(prometheus.CounterValue, c.Quoted, "type_conflicts_total", help, []string{"fate"}, []string{"quoted"})
		metric(prometheus.CounterValue, c.Unlearned, "type_conflicts_total", help, []string{"fate"}, []string{"not_learned"})
	}
}
