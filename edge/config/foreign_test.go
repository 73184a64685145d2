package config

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The credentials of each product.
const (
	ofReverb = "REVERB_APP_ID=1\nREVERB_APP_KEY=r\nREVERB_APP_SECRET=hunter2\n"
	ofPusher = "PUSHER_APP_ID=2\nPUSHER_APP_KEY=p\nPUSHER_APP_SECRET=hunter2\n"
	ofSoketi = "SOKETI_DEFAULT_APP_ID=3\nSOKETI_DEFAULT_APP_KEY=s\nSOKETI_DEFAULT_APP_SECRET=hunter2\n"
)

// changed lists what differs from the defaults, in the order of the tables.
func changed(c *Config) []string {
	var list []string
	note := func(name string, have, def any) {
		if have, def := fmt.Sprint(reflect.ValueOf(have).Elem()), fmt.Sprint(reflect.ValueOf(def).Elem()); have != def {
			list = append(list, name+"="+have)
		}
	}
	defaults := Default()
	for _, s := range settings {
		note(s.key, s.bind(c), s.bind(&defaults))
	}
	for _, a := range c.Apps {
		b := NewApp()
		for _, s := range appSettings {
			note(a.ID+"."+s.key, s.bind(a), s.bind(b))
		}
		for _, s := range limitSettings {
			note(a.ID+".limits."+s.key, s.bind(&a.Limits), s.bind(&b.Limits))
		}
	}
	return list
}

// loaded is what a configuration came out as.
type loaded struct {
	Apps, Set, Used, Unused []string
}

var foreignTests = []struct {
	name  string
	file  string            // the .env
	env   map[string]string // the real environment
	flags map[string]string
	want  loaded
}{
	{
		name: "as reverb:install writes it",
		file: "BROADCAST_CONNECTION=reverb\nREDIS_HOST=127.0.0.1\nPORT=1\n" + ofReverb + "REVERB_HOST=\"localhost\"\nREVERB_PORT=8080\nREVERB_SCHEME=http\n\nVITE_REVERB_APP_KEY=\"${REVERB_APP_KEY}\"\nVITE_REVERB_HOST=\"${REVERB_HOST}\"\n",
		want: loaded{
			Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8080"},
			Used: []string{"app 1 (REVERB_APP_ID, REVERB_APP_KEY, REVERB_APP_SECRET)", "listen=0.0.0.0:8080 (REVERB_HOST, REVERB_PORT, REVERB_SCHEME)"},
		},
	},
	{
		name: "another port",
		file: ofReverb + "REVERB_HOST=ws.localhost\nREVERB_PORT=9001\nREVERB_SCHEME=HTTP",
		want: loaded{Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:9001"}},
	},
	{
		name: "behind a proxy of another name, where Reverb listens on 8080",
		file: ofReverb + "REVERB_HOST=ws.example.com\nREVERB_PORT=443\nREVERB_SCHEME=https",
		want: loaded{
			Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8080"},
			Used:   []string{"app 1 (REVERB_APP_ID, REVERB_APP_KEY, REVERB_APP_SECRET)", "listen=0.0.0.0:8080 (as Reverb does without REVERB_SERVER_PORT)"},
			Unused: []string{"REVERB_HOST, REVERB_PORT, REVERB_SCHEME (the application's way to another machine, or to a proxy)"},
		},
	},
	{
		name: "behind a proxy on this machine",
		file: ofReverb + "REVERB_HOST=127.0.0.1\nREVERB_PORT=8443\n",
		want: loaded{
			Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8080"},
			Unused: []string{"REVERB_HOST, REVERB_PORT (the application speaks TLS and there is no certificate here, so a proxy must be at port 8443)"},
		},
	},
	{
		name:  "TLS on this machine",
		file:  ofReverb + "REVERB_HOST=::1\nREVERB_PORT=8443\nREVERB_SCHEME=https\n",
		flags: map[string]string{"tls-cert": "cert.pem", "tls-key": "key.pem"},
		want:  loaded{Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8443", "tls_cert=cert.pem", "tls_key=key.pem"}},
	},
	{
		name: "a host without a port",
		file: ofReverb + "REVERB_HOST=localhost\nREVERB_SCHEME=http\n",
		want: loaded{Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8080"}, Unused: []string{"REVERB_HOST, REVERB_SCHEME (REVERB_HOST and REVERB_PORT are not both there)"}},
	},
	{
		name: "Reverb's server",
		file: ofReverb + "REVERB_SERVER_HOST=127.0.0.1\nREVERB_SERVER_PORT=8081\nREVERB_SERVER_PATH=/ws/\nREVERB_HOST=localhost\nREVERB_PORT=8080\nREVERB_SCHEME=http\n",
		env:  map[string]string{"PORT": "10000"},
		want: loaded{
			Apps: []string{"1/r"}, Set: []string{"listen=127.0.0.1:8081", "path_prefix=/ws"},
			Used: []string{
				"app 1 (REVERB_APP_ID, REVERB_APP_KEY, REVERB_APP_SECRET)", "path_prefix=/ws (REVERB_SERVER_PATH)",
				"listen=127.0.0.1:8081 (REVERB_SERVER_HOST, REVERB_SERVER_PORT)",
			},
			Unused: []string{"PORT, REVERB_HOST, REVERB_PORT, REVERB_SCHEME (REVERB_SERVER_HOST, REVERB_SERVER_PORT says it)"},
		},
	},
	{
		name: "an address of Reverb's server and the platform's port",
		file: ofReverb + "REVERB_SERVER_HOST=[::]\n",
		env:  map[string]string{"PORT": "10000"},
		want: loaded{Apps: []string{"1/r"}, Set: []string{"listen=[::]:10000"}, Used: []string{"app 1 (REVERB_APP_ID, REVERB_APP_KEY, REVERB_APP_SECRET)", `listen="[::]:10000" (REVERB_SERVER_HOST, PORT)`}},
	},
	{
		name: "an address of Reverb's server alone",
		file: ofReverb + "REVERB_SERVER_HOST=127.0.0.1\nREVERB_SERVER_PATH=/\n",
		want: loaded{Apps: []string{"1/r"}, Set: []string{"listen=127.0.0.1:8080"}},
	},
	{
		name: "a platform without any of it",
		env:  oneApp(map[string]string{"PORT": "10000"}),
		want: loaded{Apps: []string{"77/k"}, Set: []string{"listen=0.0.0.0:10000"}, Used: []string{"listen=0.0.0.0:10000 (PORT)"}},
	},
	{
		name: "a PORT that is none",
		env:  oneApp(map[string]string{"PORT": "tcp://10.0.0.7:80"}),
		want: loaded{Apps: []string{"77/k"}, Unused: []string{"PORT (it is no number of a port)"}},
	},
	{
		name:  "a flag beats it",
		file:  ofReverb + "REVERB_SERVER_PORT=8081\nREVERB_SERVER_PATH=x\nREVERB_HOST=localhost\nREVERB_PORT=8080\nREVERB_SCHEME=http\nREVERB_APP_MAX_MESSAGE_SIZE=200000",
		env:   map[string]string{"PORT": "10000", "REECHO_PATH_PREFIX": "/y", "REECHO_MAX_MESSAGE_BYTES": "150000"},
		flags: map[string]string{"listen": "127.0.0.1:1"},
		want: loaded{
			Apps: []string{"1/r"}, Set: []string{"listen=127.0.0.1:1", "path_prefix=/y", "max_message_bytes=150000", "1.limits.client_event_data_bytes=200000", "1.limits.message_bytes=200000"},
			Unused: []string{"REVERB_SERVER_PATH (REECHO_PATH_PREFIX says it)", "REVERB_SERVER_PORT, PORT, REVERB_HOST, REVERB_PORT, REVERB_SCHEME (--listen says it)"},
		},
	},
	{
		name: "Pusher's variables",
		file: ofPusher + "PUSHER_HOST=127.0.0.1\nPUSHER_PORT=8090\nPUSHER_SCHEME=http\nPUSHER_APP_CLUSTER=mt1\n",
		want: loaded{Apps: []string{"2/p"}, Set: []string{"listen=0.0.0.0:8090"}, Unused: []string{"PUSHER_APP_CLUSTER (a Pusher cluster is a name of Pusher's own hosts)"}},
	},
	{
		name: "Pusher's own hosts",
		file: ofPusher + "PUSHER_HOST=\nPUSHER_PORT=443\nPUSHER_SCHEME=https\n",
		want: loaded{Apps: []string{"2/p"}, Unused: []string{"PUSHER_PORT, PUSHER_SCHEME (PUSHER_HOST and PUSHER_PORT are not both there)"}},
	},
	{
		name: "the limits of Reverb",
		file: ofReverb + "REVERB_APP_MAX_CONNECTIONS=500\nREVERB_APP_MAX_MESSAGE_SIZE=300000\nREVERB_APP_ACTIVITY_TIMEOUT=30\nREVERB_APP_PING_INTERVAL=60\nREVERB_MAX_REQUEST_SIZE=20_000\nREVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=none\n",
		want: loaded{
			Apps: []string{"1/r"}, Set: []string{
				"listen=0.0.0.0:8080", "max_message_bytes=300000", "1.client_events=false", "1.max_connections=500", "1.activity_timeout=30s", "1.ping_interval=1m0s",
				"1.limits.event_data_bytes=20000", "1.limits.client_event_data_bytes=300000", "1.limits.message_bytes=300000", "1.limits.request_bytes=20000",
			},
		},
	},
	{
		name: "large and small ones",
		file: ofReverb + "REVERB_APP_MAX_MESSAGE_SIZE=10000\nREVERB_MAX_REQUEST_SIZE=50000000\nREVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=all\n",
		want: loaded{
			Apps: []string{"1/r"}, Set: []string{
				"listen=0.0.0.0:8080", "1.unsubscribed_client_events=true",
				"1.limits.event_data_bytes=4194304", "1.limits.client_event_data_bytes=10000", "1.limits.message_bytes=10000", "1.limits.request_bytes=50000000",
			},
		},
	},
	{
		name: "none, and no limits",
		file: ofReverb + "REVERB_APP_MAX_CONNECTIONS=null\nREVERB_APP_MAX_MESSAGE_SIZE=0\nREVERB_APP_PING_INTERVAL=\nREVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=members\n",
		want: loaded{Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8080"}, Unused: []string{"REVERB_APP_MAX_MESSAGE_SIZE (0 is no limit there; here max_message_bytes is one)"}},
	},
	{
		name: "a rate as it is if nothing else is said",
		file: ofReverb + "REVERB_APP_RATE_LIMITING_ENABLED=true\n",
		want: loaded{Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8080", "1.limits.messages_per_interval=60"}},
	},
	{
		name: "a rate",
		file: ofReverb + "REVERB_APP_RATE_LIMIT_TERMINATE=(true)\nREVERB_APP_RATE_LIMIT_MAX_ATTEMPTS=10\nREVERB_APP_RATE_LIMIT_DECAY_SECONDS=5\nREVERB_APP_RATE_LIMITING_ENABLED=true\n",
		want: loaded{Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8080", "1.close_above_rate=true", "1.limits.messages_per_interval=10", "1.limits.message_interval=5s"}},
	},
	{
		name: "a rate that is off",
		file: ofReverb + "REVERB_APP_RATE_LIMITING_ENABLED=false\nREVERB_APP_RATE_LIMIT_MAX_ATTEMPTS=10\nREVERB_APP_RATE_LIMIT_TERMINATE=true\n",
		want: loaded{Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8080"}, Unused: []string{"REVERB_APP_RATE_LIMIT_MAX_ATTEMPTS, REVERB_APP_RATE_LIMIT_TERMINATE (REVERB_APP_RATE_LIMITING_ENABLED is not true)"}},
	},
	{
		name: "scaling",
		file: ofReverb + "REVERB_SCALING_ENABLED=true\nREDIS_HOST=redis\nREDIS_PASSWORD=hunter2\nREDIS_CLIENT=phpredis\nREVERB_PULSE_INGEST_INTERVAL=15\nREVERB_NEW=x\n",
		want: loaded{Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8080"}, Unused: []string{
			"REVERB_SCALING_ENABLED, REDIS_HOST, REDIS_PASSWORD (a cluster needs no Redis and no other server between its nodes: --cluster-name, --cluster-peers)",
			"REVERB_PULSE_INGEST_INTERVAL (it is for what runs inside of Laravel)", "REVERB_NEW (unknown here)",
		}},
	},
	{
		name: "no scaling",
		file: ofReverb + "REVERB_SCALING_ENABLED=false\nREDIS_HOST=redis\n",
		want: loaded{Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8080"}},
	},
	{
		name: "what Kubernetes sets for a service of the name",
		env: map[string]string{
			"REVERB_APP_ID": "1", "REVERB_APP_KEY": "r", "REVERB_APP_SECRET": "hunter2", "REVERB_PORT": "tcp://10.0.0.7:8080", "REVERB_SERVICE_HOST": "10.0.0.7",
			"REVERB_SERVICE_PORT": "8080", "REVERB_PORT_8080_TCP_ADDR": "10.0.0.7", "SOKETI_PORT": "tcp://10.0.0.8:6001",
		},
		want: loaded{Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8080"}},
	},
	{
		name: "soketi",
		file: ofSoketi + "SOKETI_HOST=127.0.0.1\nSOKETI_PORT=7001\nSOKETI_PATH_PREFIX=/ws\nSOKETI_DEFAULT_APP_MAX_CONNS=-1\nSOKETI_DEFAULT_APP_ENABLE_CLIENT_MESSAGES=false\n" +
			"SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC=-1\nSOKETI_DEFAULT_APP_USER_AUTHENTICATION=true\nSOKETI_USER_AUTHENTICATION_TIMEOUT=5000\nSOKETI_CHANNEL_LIMITS_MAX_NAME_LENGTH=100\n" +
			"SOKETI_CHANNEL_CACHE_TTL=3600\nSOKETI_EVENT_MAX_BATCH_SIZE=20\nSOKETI_EVENT_MAX_CHANNELS_AT_ONCE=50\nSOKETI_EVENT_MAX_NAME_LENGTH=70\nSOKETI_EVENT_MAX_SIZE_IN_KB=0.5\n" +
			"SOKETI_PRESENCE_MAX_MEMBERS=7\nSOKETI_PRESENCE_MAX_MEMBER_SIZE=2\nSOKETI_SSL_CERT=c.pem\nSOKETI_SSL_KEY=k.pem\nSOKETI_ADAPTER_DRIVER=redis\nSOKETI_METRICS_ENABLED=true\nSOKETI_METRICS_SERVER_PORT=9700\nSOKETI_METRICS_PROMETHEUS_PREFIX=x_\n",
		want: loaded{Apps: []string{"3/s"}, Set: []string{
			"listen=127.0.0.1:7001", "path_prefix=/ws", "tls_cert=c.pem", "tls_key=k.pem", "metrics_listen=0.0.0.0:9700",
			"3.client_events=false", "3.client_events_per_second=0", "3.authorized_connections=true", "3.authorization_timeout=5s",
			"3.limits.channel_name_length=100", "3.limits.event_name_length=70", "3.limits.event_data_bytes=512", "3.limits.channels_per_publish=50", "3.limits.batch_events=20",
			"3.limits.presence_members=7", "3.limits.user_info_bytes=2048", "3.limits.client_event_data_bytes=512", "3.limits.cache_ttl=1h0m0s",
		}, Unused: []string{
			"SOKETI_ADAPTER_DRIVER (a cluster needs no Redis and no other server between its nodes: --cluster-name, --cluster-peers)", "SOKETI_METRICS_PROMETHEUS_PREFIX (names of metrics begin with reecho_, and --metrics-listen says where they are)",
		}},
	},
	{
		name: "soketi's sizes",
		file: ofSoketi + "SOKETI_EVENT_MAX_SIZE_IN_KB=2048\nSOKETI_DEFAULT_APP_MAX_CONNS=7\nSOKETI_DEFAULT_APP_ENABLED=0\nSOKETI_DEBUG=1\nSOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC=5",
		want: loaded{Apps: []string{"3/s"}, Set: []string{
			"log_level=DEBUG", "max_message_bytes=4227072", "3.enabled=false", "3.client_events_per_second=5", "3.max_connections=7",
			"3.limits.event_data_bytes=2097152", "3.limits.client_event_data_bytes=2097152", "3.limits.request_bytes=4227072",
		}},
	},
	{
		name: "soketi's server, the application's credentials",
		file: ofPusher + "SOKETI_PORT=7001\nSOKETI_EVENT_MAX_NAME_LENGTH=70\nPUSHER_HOST=soketi\nPUSHER_PORT=7001\nPUSHER_SCHEME=http",
		want: loaded{Apps: []string{"2/p"}, Set: []string{"listen=0.0.0.0:7001", "2.limits.event_name_length=70"}, Unused: []string{"PUSHER_HOST, PUSHER_PORT, PUSHER_SCHEME (the application's way to another machine, or to a proxy)"}},
	},
	{
		name: "laravel-websockets",
		file: ofPusher + "LARAVEL_WEBSOCKETS_PORT=6002\nLARAVEL_WEBSOCKETS_SSL_LOCAL_CERT=both.pem\nLARAVEL_WEBSOCKETS_SSL_PASSPHRASE=hunter2\n",
		want: loaded{
			Apps: []string{"2/p"}, Set: []string{"listen=0.0.0.0:6002", "tls_cert=both.pem", "tls_key=both.pem"},
			Unused: []string{"LARAVEL_WEBSOCKETS_SSL_PASSPHRASE (a private key with a passphrase is not read: openssl pkey -in FILE writes one without)"},
		},
	},
	{
		name: "one of two in use",
		file: "BROADCAST_CONNECTION=reverb\n" + ofPusher + ofSoketi + ofReverb + "SOKETI_PORT=7001\nSOKETI_PATH_PREFIX=/x\nSOKETI_SSL_CERT=x\nPUSHER_HOST=localhost\nPUSHER_PORT=7002\nREVERB_APP_MAX_CONNECTIONS=7",
		want: loaded{
			Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8080", "1.max_connections=7"},
			Unused: []string{"SOKETI_DEFAULT_APP_ID, SOKETI_DEFAULT_APP_KEY, SOKETI_DEFAULT_APP_SECRET, PUSHER_APP_ID, PUSHER_APP_KEY, PUSHER_APP_SECRET, " +
				"SOKETI_PATH_PREFIX, SOKETI_SSL_CERT, SOKETI_PORT, PUSHER_HOST, PUSHER_PORT (BROADCAST_CONNECTION is reverb)"},
		},
	},
	{
		name: "the other of two in use",
		file: "BROADCAST_DRIVER=pusher\n" + ofPusher + ofSoketi + ofReverb + "REVERB_SERVER_PORT=1\nSOKETI_PORT=7001\nSOKETI_EVENT_MAX_BATCH_SIZE=5",
		want: loaded{
			Apps: []string{"2/p"}, Set: []string{"listen=0.0.0.0:7001", "2.limits.batch_events=5"},
			Unused: []string{"REVERB_APP_ID, REVERB_APP_KEY, REVERB_APP_SECRET, REVERB_SERVER_PORT (BROADCAST_DRIVER is pusher)", "SOKETI_DEFAULT_APP_ID, SOKETI_DEFAULT_APP_KEY, SOKETI_DEFAULT_APP_SECRET (PUSHER_APP_… says it)"},
		},
	},
	{
		name: "two that contradict each other",
		file: ofReverb + ofSoketi + "SOKETI_HOST=127.0.0.1\nSOKETI_PORT=7001\nSOKETI_PATH_PREFIX=/x\nREVERB_SERVER_PORT=8081\nREVERB_SERVER_PATH=y\nREVERB_APP_MAX_CONNECTIONS=7\nSOKETI_DEFAULT_APP_MAX_CONNS=8",
		want: loaded{
			Apps: []string{"1/r", "3/s"}, Set: []string{"listen=0.0.0.0:8081", "path_prefix=/y", "1.max_connections=7", "3.max_connections=8"},
			Unused: []string{"SOKETI_PATH_PREFIX (REVERB_SERVER_PATH says it)", "SOKETI_HOST, SOKETI_PORT (REVERB_SERVER_PORT says it)"},
		},
	},
	{
		name: "two names of one app",
		file: ofReverb + strings.NewReplacer("ID=3", "ID=1", "KEY=s", "KEY=r").Replace(ofSoketi) + "REVERB_APP_MAX_CONNECTIONS=7\nSOKETI_DEFAULT_APP_MAX_CONNS=8\nREVERB_ALLOWED_ORIGINS=*\nREVERB_APP_ALLOWED_ORIGINS=a.example",
		want: loaded{
			Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8080", "1.max_connections=7", "1.allowed_origins=[*]"},
			Unused: []string{"REVERB_APP_ALLOWED_ORIGINS (REVERB_ALLOWED_ORIGINS says it)", "SOKETI_DEFAULT_APP_MAX_CONNS (REVERB_APP_MAX_CONNECTIONS says it)"},
		},
	},
	{
		name: "apps of our own",
		file: ofReverb + "REVERB_APP_MAX_CONNECTIONS=7\nREVERB_HOST=localhost\nREVERB_PORT=8080\nREVERB_SCHEME=http\n",
		env:  map[string]string{"REECHO_APPS": "[{id: 9, key: f, secret: x}]"},
		want: loaded{Apps: []string{"9/f"}, Unused: []string{
			"REVERB_APP_ID, REVERB_APP_KEY, REVERB_APP_SECRET (REECHO_APPS says which apps there are)",
			"REVERB_APP_MAX_CONNECTIONS, REVERB_HOST, REVERB_PORT, REVERB_SCHEME (REECHO_APPS says which apps there are, and their limits)",
		}},
	},
	{
		name: "the real environment",
		file: ofReverb + "REVERB_SERVER_PORT=8081\n",
		env:  map[string]string{"REVERB_SERVER_PORT": "8082", "REVERB_APP_RATE_LIMITING_ENABLED": "true"},
		want: loaded{Apps: []string{"1/r"}, Set: []string{"listen=0.0.0.0:8082", "1.limits.messages_per_interval=60"}},
	},
}

// What variables of other servers set, and what is said of them.
func TestForeign(t *testing.T) {
	t.Parallel()
	for _, tt := range foreignTests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			flags := map[string]string{"env-file": mustWrite(t, ".env", tt.file)}
			maps.Copy(flags, tt.flags)
			s := source(flags, tt.env)
			s.Environ = func() (pairs []string) {
				for name, text := range tt.env {
					pairs = append(pairs, name+"="+text)
				}
				return pairs
			}
			c, err := Load(s)
			if err != nil {
				t.Fatal(err)
			}
			got := loaded{ids(c.Apps), changed(&c), c.Used, c.Unused}
			if tt.want.Used == nil {
				got.Used = nil
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if said := fmt.Sprint(c.Used, c.Unused, c.Warnings); strings.Contains(said, "hunter2") {
				t.Errorf("a secret is said: %s", said)
			}
		})
	}
}

// What is wrong is said with the file, the line, the variable and the rule.
func TestForeignProblems(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"REVERB_SERVER_PORT=80 80":                       "REVERB_SERVER_PORT",
		"REVERB_SERVER_PORT=0":                           `REVERB_SERVER_PORT is "0": should be the number of a port`,
		"REVERB_SERVER_PORT=70000":                       `REVERB_SERVER_PORT is "70000": should be the number of a port`,
		"REVERB_SERVER_PORT=+80":                         "should be the number of a port",
		"REVERB_SERVER_HOST=http://x":                    `REVERB_SERVER_HOST is "http://x": should be an address or a name`,
		"REVERB_SERVER_HOST=\"a b\"":                     "should be an address or a name",
		"REVERB_SERVER_PATH=\"a b\"":                     `path_prefix is "/a b"`,
		"REVERB_APP_MAX_CONNECTIONS=0":                   "should be a whole number above 0",
		"REVERB_APP_MAX_CONNECTIONS=-1":                  "should be a whole number above 0",
		"REVERB_APP_MAX_CONNECTIONS=true":                `is "true": should be a whole number above 0`,
		"REVERB_APP_MAX_MESSAGE_SIZE=10KB":               "should be a whole number above 0",
		"REVERB_APP_ACTIVITY_TIMEOUT=0":                  "should be a whole number above 0",
		"REVERB_APP_ACTIVITY_TIMEOUT=99999999999":        "REVERB_APP_ACTIVITY_TIMEOUT",
		"REVERB_APP_PING_INTERVAL=1.5":                   "should be a whole number above 0",
		"REVERB_MAX_REQUEST_SIZE=99999999999999999":      "limits.request_bytes is 99999999999999999: at most",
		"REVERB_APP_ACCEPT_CLIENT_EVENTS_FROM=any":       "should be all, members or none",
		"REVERB_ALLOWED_ORIGINS=https://a/b":             "never matches",
		"REVERB_APP_RATE_LIMITING_ENABLED=1":             "should be true or false",
		"REVERB_APP_RATE_LIMITING_ENABLED=yes":           "should be true or false",
		"SOKETI_DEFAULT_APP_MAX_CONNS=-x":                "or -1 for no limit",
		"SOKETI_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SEC=0": "or -1 for no limit",
		"SOKETI_EVENT_MAX_SIZE_IN_KB=NaN":                "should be a number of kilobytes",
		"SOKETI_EVENT_MAX_SIZE_IN_KB=1e99":               "should be a number of kilobytes",
		"SOKETI_EVENT_MAX_SIZE_IN_KB=0":                  "should be a number of kilobytes",
		"SOKETI_SSL_KEY=k.pem":                           "SOKETI_SSL_CERT is missing",
		"SOKETI_DEFAULT_APP_ENABLED=maybe":               "should be true or false",
	} {
		name, _, _ := strings.Cut(line, "=")
		path := mustWrite(t, ".env", ofReverb+strings.NewReplacer("=2", "=4", "=p", "=q").Replace(ofPusher)+"\n"+line+"\n")
		_, err := Load(source(map[string]string{"env-file": path}, nil))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), ".env") && !strings.Contains(want, "path_prefix") {
			t.Errorf("%s: got %v, want %q", line, err, want)
			continue
		}
		if at := fmt.Sprintf("%s, line 8: %s", path, name); !strings.Contains(err.Error(), at) && !strings.Contains(want, "path_prefix") && want != name {
			t.Errorf("%s: got %v, want %q", line, err, at)
		}
		if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: several lines, or a secret: %v", line, err)
		}
	}
	env := map[string]string{"REVERB_APP_ID": "1", "REVERB_APP_KEY": "r", "REVERB_APP_SECRET": "x", "REVERB_APP_PING_INTERVAL": "soon"}
	if _, err := Load(source(nil, env)); err == nil || err.Error() != `REVERB_APP_PING_INTERVAL is "soon": should be a whole number above 0` {
		t.Errorf("got %v", err)
	}
	path := mustWrite(t, ".env", ofReverb+strings.NewReplacer("ID=2", "ID=1").Replace(ofPusher))
	want := "REVERB_APP_… and PUSHER_APP_… give one app different credentials: make them the same, or say with BROADCAST_CONNECTION=reverb (or pusher) which count"
	if _, err := Load(source(map[string]string{"env-file": path}, nil)); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v", err)
	}
}

// The certificate of Herd or Valet is taken for the host to which the application
// speaks TLS, and for nothing else.
func TestCertificateOfHerdAndValet(t *testing.T) {
	t.Parallel()
	const host = "REVERB_HOST=Shop.test\nREVERB_PORT=8443\nREVERB_SCHEME=https\n"
	for name, tt := range map[string]struct {
		folder, file string
		flags, env   map[string]string
		without      string // the file that is not there
		want         string // of listen
		by           string // which program made it; "": none is found
	}{
		"Herd":              {folder: "Library/Application Support/Herd/config/valet", file: host, want: ":8443", by: "Herd"},
		"Herd on Windows":   {folder: ".config/herd/config/valet", file: host, want: ":8443", by: "Herd"},
		"Valet":             {folder: ".config/valet", file: host, want: ":8443", by: "Valet"},
		"Valet for Linux":   {folder: ".valet", file: host, want: ":8443", by: "Valet"},
		"a server's port":   {folder: ".config/valet", file: host + "REVERB_SERVER_PORT=8081", want: ":8081", by: "Valet"},
		"a flag's":          {folder: ".config/valet", file: host, flags: map[string]string{"listen": ":9"}, want: ":9", by: "Valet"},
		"the default":       {folder: ".config/valet", file: "REVERB_HOST=shop.test\nREVERB_PORT=8443", want: ":8443", by: "Valet"},
		"http":              {folder: ".config/valet", file: strings.Replace(host, "https", "http", 1), want: ":8080"},
		"another host":      {folder: ".config/valet", file: strings.Replace(host, "Shop", "shop2", 1), want: ":8080"},
		"no key":            {folder: ".config/valet", file: host, without: "shop.test.key", want: ":8080"},
		"no certificate":    {folder: ".config/valet", file: host, without: "shop.test.crt", want: ":8080"},
		"a path":            {folder: ".config/valet", file: strings.Replace(host, "Shop.test", "x/../shop.test", 1), want: ":8080"},
		"one that is given": {folder: ".config/valet", file: host, flags: map[string]string{"tls-cert": "c", "tls-key": "k"}, want: ":8080"},
		"one of soketi":     {folder: ".config/valet", file: host + "SOKETI_SSL_CERT=c\nSOKETI_SSL_KEY=k", want: ":8080"},
		"not in use":        {folder: ".config/valet", file: host + "BROADCAST_CONNECTION=pusher\n" + ofPusher, want: "0.0.0.0:6001"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			home := t.TempDir()
			dir := filepath.Join(home, filepath.FromSlash(tt.folder), "Certificates")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"shop.test.crt", "shop.test.key"} {
				if file == tt.without {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			flags := map[string]string{"env-file": mustWrite(t, ".env", ofReverb+tt.file)}
			maps.Copy(flags, tt.flags)
			c, err := Load(source(flags, map[string]string{"HOME": home}))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(c.Listen, tt.want) {
				t.Errorf("listens on %s, want %s", c.Listen, tt.want)
			}
			cert := filepath.Join(dir, "shop.test.crt")
			if found := c.TLSCert == cert && c.TLSKey == filepath.Join(dir, "shop.test.key"); found != (tt.by != "") {
				t.Errorf("certificate %q, key %q", c.TLSCert, c.TLSKey)
			}
			said := slices.ContainsFunc(c.Used, func(s string) bool {
				return strings.Contains(s, strconv.Quote(cert)) && strings.Contains(s, "of "+tt.by+" (REVERB_HOST")
			})
			if said != (tt.by != "") {
				t.Errorf("said: %q", c.Used)
			}
		})
	}
}

// Each variable names settings that there are, and has one row.
func TestProducts(t *testing.T) {
	t.Parallel()
	c := Default()
	f := &foreign{loader: &loader{}, c: &c}
	seen := map[string]bool{}
	for i := range products {
		p := &products[i]
		for _, v := range p.variables {
			if seen[v.name] || (len(v.sets) == 0 && v.does == "") == (v.unused == "") {
				t.Errorf("%s: twice, or neither used nor not", v.name)
			}
			seen[v.name] = true
			for _, m := range v.sets {
				to := slot{setting: m.setting}
				if key, isApp := strings.CutPrefix(m.setting, ofApp); isApp {
					to = slot{NewApp(), key}
				}
				f.target(to) // panics for what is none
			}
		}
	}
}

// Hosts that are this machine, without asking anybody.
func TestIsHere(t *testing.T) {
	t.Parallel()
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"localhost": true, "LOCALHOST.": true, "app.localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "[::1]": true, "0.0.0.0": true, "::": true,
		"::ffff:127.0.0.1": true, own: true, "": false, "example.com": false, "localhost.example.com": false, "192.0.2.1": false, "notlocalhost": false, "shop.test": false,
	} {
		if got := isHere(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

// Whatever variables hold, they are read or refused, and a configuration that is read is
// valid and can be shown. No secret is ever said.
func FuzzForeign(f *testing.F) {
	var names []string
	for i := range products {
		names = append(names, products[i].names()...)
	}
	for i, tt := range foreignTests {
		f.Add(uint(i), "1", uint(i+7), "true", tt.file)
	}
	f.Add(uint(0), "99999999999999999999", uint(1), "-0", "A=b")
	f.Fuzz(func(t *testing.T, a uint, x string, b uint, y, file string) {
		path := filepath.Join(t.TempDir(), ".env")
		if err := os.WriteFile(path, []byte(ofReverb+file+"\nREVERB_APP_SECRET=hunter2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		env := map[string]string{names[a%uint(len(names))]: x, names[b%uint(len(names))]: y}
		c, err := Load(source(map[string]string{"env-file": path, "data-dir": t.TempDir()}, env))
		if err == nil {
			err = c.Validate()
			if err != nil {
				t.Errorf("read and not valid: %v", err)
			}
		}
		said := fmt.Sprint(err, c.Used, c.Unused)
		if strings.Contains(said, "hunter2") && !strings.Contains(file+x+y, "hunter2") {
			t.Errorf("a secret is said: %s", said)
		}
	})
}
