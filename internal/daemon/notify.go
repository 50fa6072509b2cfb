package daemon

import (
	"context"
	"log/slog"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// Ready tells systemd that the service is up (sd_notify(3)). Without systemd it
// does nothing.
func Ready(log *slog.Logger) { notify(log, sd.SdNotifyReady) }

// Stopping tells systemd that the service is on its way out.
func Stopping(log *slog.Logger) { notify(log, sd.SdNotifyStopping) }

func notify(log *slog.Logger, state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		log.Warn("systemd cannot be notified", "err", err)
	}
}

// Supervise tells systemd the status line, when it has changed, and feeds the
// watchdog as long as alive is true, until ctx is done. Without systemd it does
// nothing but wait.
func Supervise(ctx context.Context, log *slog.Logger, status func() (line string, alive bool)) {
	const statusEvery = 5 * time.Second
	every := statusEvery
	watchdog, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("watchdog interval cannot be read", "err", err)
	}
	if watchdog > 0 {
		every = min(every, watchdog/3)
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last, stuck := "", false
	for {
		line, alive := status()
		if line != last {
			notify(log, "STATUS="+line)
			last = line
		}
		if watchdog > 0 && alive {
			notify(log, sd.SdNotifyWatchdog)
		}
		if !alive && !stuck {
			log.Error("no progress, the watchdog is not fed", "status", line)
		}
		stuck = !alive
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
