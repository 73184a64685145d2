package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"reecho/edge/limit"
)

// notLimits are the settings that bound nothing: where, who, what and how; and times
// that nobody is refused or cut off for.
var notLimits = []string{
	"listen", "unix_socket_mode", "data_dir", "path_prefix", "tls_cert", "tls_key", "trusted_proxies", "proxy_protocol", "demo",
	"acme_domains", "acme_email", "acme_directory", "acme_ca", "acme_http_listen", "acme_eab_key_id", "acme_eab_key",
	"metrics_listen", "log_level", "log_format", "session_ack_interval", "idempotency_window", "sync_interval", "partitions",
	"node_name", "cluster_name", "cluster_listen", "cluster_peers", "storage", "cluster_leaf_listen", "cluster_secret", "cluster_size",
	"cluster_advertise", "cluster_fast_elections", "cluster_tls_cert", "cluster_tls_key", "cluster_tls_ca",
	"nats_url", "nats_credentials", "nats_tls_ca", "nats_tls_cert", "nats_tls_key", "nats_domain", "nats_replicas",
	"xhr_heartbeat", "ping_interval", "linger", "webhook_grace", "webhook_return_time", "drain_time", "shutdown_timeout", "shards", "pollers",
	"apps[].enabled", "apps[].client_events", "apps[].unsubscribed_client_events", "apps[].user_authentication", "apps[].subscription_counts",
	"apps[].watchlist", "apps[].allowed_origins", "apps[].tls_only", "apps[].authorized_connections", "apps[].activity_timeout",
	"apps[].ping_interval", "apps[].close_above_rate", "apps[].subscription_errors", "apps[].lenient_protocol", "apps[].lenient_subscribe",
	"apps[].resume_grants", "apps[].compression", "apps[].compression_min_bytes",
	"apps[].limits.message_interval", "apps[].limits.cache_ttl",
	"apps[].retention[].channels", "apps[].retention[].storage", "apps[].retention[].replicas", "apps[].retention[].off",
}

func prefixed[T any](prefix string, table []setting[T]) (keys []string) {
	for _, s := range table {
		keys = append(keys, prefix+s.key)
	}
	return keys
}

// Every setting is a limit, with a metric, or is none: a new one has to be put in one of
// the two lists. What an app's webhooks have are no limits.
func TestLimits(t *testing.T) {
	t.Parallel()
	keys := slices.Concat(
		prefixed("", settings), prefixed(ofApp, appSettings), prefixed(ofApp+"limits.", limitSettings), prefixed(ofApp+"retention[].", retentionSettings),
	)
	var listed []string
	for _, l := range Limits() {
		listed = append(listed, l.Key)
		if (l.Hits == "") == (l.Shown == "") {
			t.Errorf("%s has hits %q and is shown by %q: want one of them", l.Key, l.Hits, l.Shown)
		}
	}
	for _, key := range keys {
		isLimit, isNone := slices.Contains(listed, key), slices.Contains(notLimits, key)
		if isLimit == isNone {
			t.Errorf("%s is a limit: %t, and none: %t; say in limits.go which metric shows it, or in notLimits that it is none", key, isLimit, isNone)
		}
	}
	for _, key := range slices.Concat(listed, notLimits) {
		if !slices.Contains(keys, key) {
			t.Errorf("there is no setting %s", key)
		}
	}
}

// What is counted for each limit is counted somewhere: by the name of its reason, or,
// in package pusher, which knows no reasons, by the name of the setting.
func TestLimitsAreCounted(t *testing.T) {
	t.Parallel()
	values, used := reasonNames(t), usedReasons(t)
	for _, l := range Limits() {
		if l.Hits != "" && !used[values[l.Hits]] && !used[strconv.Quote(string(l.Hits))] {
			t.Errorf("nothing counts what runs into %s (%s)", l.Key, l.Hits)
		}
	}
}

// reasonNames are the names of the constants of package limit, by their values.
func reasonNames(t *testing.T) map[limit.Reason]string {
	t.Helper()
	names := make(map[limit.Reason]string)
	file, err := parser.ParseFile(token.NewFileSet(), "../limit/ledger.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, is := n.(*ast.ValueSpec); is && len(spec.Values) == 1 {
			if text, is := spec.Values[0].(*ast.BasicLit); is && text.Kind == token.STRING {
				value, _ := strconv.Unquote(text.Value)
				names[limit.Reason(value)] = spec.Names[0].Name
			}
		}
		return true
	})
	return names
}

// usedReasons are the constants of package limit that other packages use, and the
// strings in package pusher.
func usedReasons(t *testing.T) map[string]bool {
	t.Helper()
	used := make(map[string]bool)
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		if dir := filepath.Base(filepath.Dir(path)); dir == "config" || dir == "limit" {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if of, is := n.X.(*ast.Ident); is && of.Name == "limit" {
					used[n.Sel.Name] = true
				}
			case *ast.BasicLit:
				if file.Name.Name == "pusher" && n.Kind == token.STRING {
					used[n.Value] = true
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return used
}
