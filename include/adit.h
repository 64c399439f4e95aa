/*
 * adit.h - give a local TCP port, or a Unix socket, a public address.
 *
 *     struct adit_config *config = adit_config_new();
 *     struct adit_client *client = adit_client_new(config);
 *     struct adit_tunnel *tunnel = adit_forward(client, "127.0.0.1:8000", NULL);
 *     if (tunnel == NULL || adit_wait_open(tunnel, 10000) != 0)
 *       fprintf(stderr, "%s\n", adit_error(client));
 *     else
 *       printf("%s\n", adit_tunnel_url(tunnel));
 *
 * A client keeps the link to a relay and runs one thread of its own, with all signals blocked; the library never
 * prints, never touches signal handlers, stdio, the environment or the working directory. Every function may be called
 * from any thread; freeing an object while another thread uses it is the caller's error. After fork() only the parent's
 * objects live: the child closes its copies of their descriptors as it begins, every call on them fails with
 * ADIT_EFORKED, and frees are safe.
 *
 * Functions that return int return 0 or a negative enum adit_errno; functions that return a pointer return NULL on
 * failure. adit_error() then tells, for people, what is wrong and what to do.
 */
#ifndef ADIT_H
#define ADIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ADIT_EXPORT __attribute__((visibility("default")))

enum adit_errno {
  ADIT_OK = 0,
  ADIT_EINVAL = -1,        /* a wrong argument or option */
  ADIT_ENOMEM = -2,
  ADIT_ECONFIG = -3,       /* no token, a malformed token, a bad configuration, authorities or keep file; or an embedded
                              relay cannot start */
  ADIT_EUNREACHABLE = -4,  /* no relay could be reached, or the embedded one has ended */
  ADIT_EAUTH = -5,         /* the relay's certificate does not match, or the token was refused, revoked or has
                              expired */
  ADIT_EREFUSED = -6,      /* the relay refused the tunnel: limit, ports, options */
  ADIT_ECONFLICT = -7,     /* this client forwards that app already, or the tunnel was superseded */
  ADIT_ETIMEDOUT = -8,
  ADIT_ECLOSED = -9,       /* the tunnel or client was closed */
  ADIT_EFORKED = -10,      /* the object belongs to the parent process */
  ADIT_ESYSTEM = -11       /* a system call failed */
};

struct adit_config;
struct adit_client;
struct adit_tunnel;

ADIT_EXPORT const char *adit_version(void);

/* Configuration: what a client starts from. Strings are copied. */
ADIT_EXPORT struct adit_config *adit_config_new(void);
ADIT_EXPORT void adit_config_free(struct adit_config *config);
/* Adds a token (may be called several times; each brings its relays). */
ADIT_EXPORT int adit_config_add_token(struct adit_config *config, const char *token);
/* Dials HOST:PORT instead of the addresses in the tokens (may be called several times: they are raced); or unix:PATH, a
   Unix socket (unix:@NAME is an abstract one), behind which is the relay that the first token names first. Its data
   connections go inside TLS. */
ADIT_EXPORT int adit_config_add_relay(struct adit_config *config, const char *address);
/* PEM file of authorities to trust instead of the system's, for relays without a pin. */
ADIT_EXPORT int adit_config_set_ca_file(struct adit_config *config, const char *path);
/* Dials relays through an HTTP proxy, for the link and for data: "http://[USER:PASSWORD@]HOST[:PORT]", "https://...",
   with user and password percent-encoded, or "none". NULL: as the user's configuration says (proxy = URL), or else
   HTTPS_PROXY or ALL_PROXY, which do not hold for relays on loopback. What NO_PROXY names is dialled straight in any
   case but "none", where everything is. The variables are read as curl reads them, now; the names of relays are left to
   the proxy to look up. */
ADIT_EXPORT int adit_config_set_proxy(struct adit_config *config, const char *url);
/* How visitors' data goes to relays: "plain", which the kernel can pass on without copying it; "tls", as a TLS
   connection more for each visitor, for networks that let nothing else through; or "auto" (also NULL): plain unless
   that does not get through, or goes through a proxy or a Unix socket. What passes is encrypted in any case (but for
   the option plain of a tunnel). */
ADIT_EXPORT int adit_config_set_data(struct adit_config *config, const char *how);
/* Reads ADIT_TOKEN, ADIT_RELAY and the user's configuration, where the config has none yet; and the proxy
   (adit_config_set_proxy with NULL) unless it is set. *found is 1 when there is a token now. A variable that is set but
   empty is an error (ADIT_ECONFIG), and so is an empty HOME without XDG_CONFIG_HOME. */
ADIT_EXPORT int adit_config_load(struct adit_config *config, int *found);
/* Without a token: joins this user's relay on loopback, which `program relay` (path of the adit program) starts when
   there is none. */
ADIT_EXPORT int adit_config_set_embedded(struct adit_config *config, const char *program);
/* Connects to a relay of the configuration, proves the token to it and leaves: 0, or why not (adit_config_error). */
ADIT_EXPORT int adit_check(struct adit_config *config, int timeout_ms);
ADIT_EXPORT const char *adit_config_error(const struct adit_config *config);

/* Starts connecting in the background. NULL: out of memory, or the config is bad (adit_config_error says why). */
ADIT_EXPORT struct adit_client *adit_client_new(struct adit_config *config);
/* Closes all its tunnels: new visitors stop at once, those that are there have drain_ms to finish; then what they and
   the app have sent is delivered, for which there is a second, and their streams are reset. Waits for its thread, then
   frees the client and its tunnels. In a forked child: closes the child's copies of its descriptors, without a word to
   their peers. */
ADIT_EXPORT void adit_client_close(struct adit_client *client, uint32_t drain_ms);
/* The last failure in words, with the remedy. Valid until the next call from the same thread. client may be NULL. */
ADIT_EXPORT const char *adit_error(const struct adit_client *client);
/* The embedded relay's authority certificate (path of a PEM file), or NULL. */
ADIT_EXPORT const char *adit_client_ca_file(const struct adit_client *client);
/* Where the embedded relay takes other agents of this machine, "unix:/PATH", as adit_config_add_relay has it: with a
   token that was narrowed from this client's, as for containers without a network. NULL before it has started, on Linux
   before 6.16, and with another relay. */
ADIT_EXPORT const char *adit_client_relay_socket(const struct adit_client *client);
/* The name of the relay that was chosen, or NULL before. */
ADIT_EXPORT const char *adit_client_relay(const struct adit_client *client);

/* What a token for somebody else is to be narrower in; zero-initialise with ADIT_NARROW_OPTIONS_INIT. 0 or NULL: as
   one's own. */
struct adit_narrow_options {
  size_t size;             /* sizeof(struct adit_narrow_options) */
  const char *name;        /* for the relay's log and listings: at most 64 printable ASCII characters without spaces */
  int64_t expires_s;       /* it is good for so many seconds from now on */
  uint32_t max_tunnels;    /* at once, as the next one */
  uint32_t max_streams;
  uint32_t max_visitors_per_s;
  uint64_t max_rate;       /* bytes per second of all its streams */
  int no_raw;              /* no raw TCP ports */
  const char *const *allow;/* CIDR blocks of visitors, at most 16, within those of one's own token, if it has any */
  size_t allow_n;
};
#define ADIT_NARROW_OPTIONS_INIT { sizeof(struct adit_narrow_options), NULL, 0, 0, 0, 0, 0, 0, NULL, 0 }
#define ADIT_TOKEN_CAP 4097        /* room for any token, with its NUL */
/* Makes a token from the only one of the configuration, or of the client, for another key, without asking anybody: 0
   and the word in `token`, of at least ADIT_TOKEN_CAP bytes, which the caller wipes when done. Its tunnels count for
   one's own token, too; whoever revokes that ends them. A token may be narrowed, and what comes of it once more.
   ADIT_EINVAL: it would be wider, was narrowed twice, or there are several; ADIT_EAUTH: one's own has expired. A
   client's embedded relay has timeout_ms (< 0: no limit) to start, else ADIT_ETIMEDOUT. */
ADIT_EXPORT int adit_config_narrow(struct adit_config *config, const struct adit_narrow_options *options, char *token,
                                   size_t cap);
ADIT_EXPORT int adit_client_narrow(struct adit_client *client, const struct adit_narrow_options *options,
                                   int timeout_ms, char *token, size_t cap);

/* Revokes a token that was narrowed from the only one of the client, or from one of those, at the client's relay, which
   is connected to if there is no link yet: 0 once the relay has it on disk; from then on it refuses the token, and what
   is open with it ends. `narrowed` is the token itself or, in 32 hexadecimal digits, its id; of an id that the relay
   does not see in use it cannot know whether it is from the client's token: if it is not, nothing is revoked. A relay
   keeps 4096 of them for a token of its operator's (fewer, if the client's token is narrowed itself), each until the
   revoked token would have expired. Of an id that is in expires_s seconds at the latest (0: not known; then for as long
   as the client's own token is good); a token says it itself. Of several relays the others are not told: there it is
   good until it expires.
   ADIT_EINVAL: it is not from the client's token, or there are several; ADIT_EREFUSED: the relay says so, keeps no
   more, or is of a version that cannot; ADIT_ETIMEDOUT: no answer within timeout_ms (< 0: no limit), for which the
   client goes on trying: to ask again is to wait for it; ADIT_EAUTH: the client's own token is no good. */
ADIT_EXPORT int adit_client_revoke(struct adit_client *client, const char *narrowed, int64_t expires_s,
                                   int timeout_ms);

/* Options of a tunnel; zero-initialise with ADIT_OPTIONS_INIT. */
struct adit_options {
  size_t size;             /* sizeof(struct adit_options) */
  int unencrypted;         /* a raw TCP port, too */
  int plain;               /* raw port bytes unsealed between relay and agent */
  int h2;                  /* offer h2 to visitors */
  int proxy_protocol;      /* PROXY v2 header to the app */
  const char *alpn;        /* comma-separated; NULL: http/1.1 */
  const char *const *allow;/* CIDR blocks of visitors; NULL: all */
  size_t allow_n;
  const char *keep_file;   /* stores the ticket, so that a restarted agent gets the same address; NULL: none */
  const char *const *deny; /* CIDR blocks of visitors who are not let in, also if they are allowed; NULL: none */
  size_t deny_n;
  const char *name;        /* what people call it, in the texts of events: at most 64 bytes; NULL: nothing */
  int64_t app_wait_ms;     /* how long a visitor waits for an app that has never been there, at most 600000;
                              0: 10000; < 0: not at all */
  int64_t retry_ms;        /* how long opening may take, as at boot, before there is a network: then the tunnel ends; <
                              0: as long as it takes. One WARNING, of the reason "waiting", tells that no relay can be
                              reached yet. 0: without it, and without an end, as the program decides how long it
                              waits */
};
#define ADIT_OPTIONS_INIT { sizeof(struct adit_options), 0, 0, 0, 0, NULL, NULL, 0, NULL, NULL, 0, NULL, 0, 0 }

/* app is "PORT" of this machine, where both 127.0.0.1 and [::1] are tried; "HOST:PORT" or "[V6]:PORT", whose name is
   looked up in the background, again when it leads nowhere any more; or "unix:PATH", a Unix socket ("unix:@NAME": an
   abstract one). Returns at once; the tunnel opens in the background. NULL: adit_error, adit_errno_last. */
ADIT_EXPORT struct adit_tunnel *adit_forward(struct adit_client *client, const char *app,
                                             const struct adit_options *options);
ADIT_EXPORT int adit_errno_last(void);   /* of the calling thread's last failed call */
/* Waits until visitors can reach it. timeout_ms < 0: no limit. Ends early when the tunnel was refused for good, or the
   relay's certificate does not match; what the client itself cannot mend. */
ADIT_EXPORT int adit_wait_open(struct adit_tunnel *tunnel, int timeout_ms);
/* Waits until the tunnel has ended for good by itself (superseded, its token revoked or expired, its embedded relay
   gone): 0, or ADIT_ETIMEDOUT after timeout_ms (< 0: no limit). A link that is lost is no end: it is restored. What has
   ended is still to be closed, and its streams go on until then; but its app and its keep file are free for another
   tunnel. */
ADIT_EXPORT int adit_tunnel_wait(struct adit_tunnel *tunnel, int timeout_ms);
/* Why it has ended for good, in the word of its event ("superseded", "token_revoked"); NULL while it has not.
   adit_wait_open then fails with the same in words. The string lives for ever. */
ADIT_EXPORT const char *adit_tunnel_reason(const struct adit_tunnel *tunnel);
/* Lets no new visitor in and waits until the last one has left: 0, or ADIT_ETIMEDOUT after timeout_ms (< 0: no limit).
   The tunnel may wait again, and is to be closed: for programs that want to do something else meanwhile, such as to
   look for Ctrl-C. */
ADIT_EXPORT int adit_tunnel_finish(struct adit_tunnel *tunnel, int timeout_ms);
/* Closes and frees; drain_ms as above. */
ADIT_EXPORT void adit_tunnel_close(struct adit_tunnel *tunnel, uint32_t drain_ms);

/* Valid once open (NULL and 0 before), until the tunnel is freed. */
/* https://host, with :port unless 443 */
ADIT_EXPORT const char *adit_tunnel_url(const struct adit_tunnel *tunnel);
ADIT_EXPORT const char *adit_tunnel_host(const struct adit_tunnel *tunnel);
ADIT_EXPORT uint16_t adit_tunnel_port(const struct adit_tunnel *tunnel);
ADIT_EXPORT const char *adit_tunnel_tcp_host(const struct adit_tunnel *tunnel);  /* NULL without unencrypted */
ADIT_EXPORT uint16_t adit_tunnel_tcp_port(const struct adit_tunnel *tunnel);     /* 0 without */
ADIT_EXPORT uint16_t adit_tunnel_app_port(const struct adit_tunnel *tunnel);     /* always; 0 for a Unix socket */
/* Always, until the tunnel is freed: the app ("localhost:8000", "unix:/run/app.sock"), and the name it was given, or
   NULL. */
ADIT_EXPORT const char *adit_tunnel_app(const struct adit_tunnel *tunnel);
ADIT_EXPORT const char *adit_tunnel_name(const struct adit_tunnel *tunnel);

struct adit_tunnel_stats {
  uint64_t visitors_now, visitors_total, bytes_to_app, bytes_from_app, app_failures;
};
ADIT_EXPORT void adit_tunnel_stats(const struct adit_tunnel *tunnel, struct adit_tunnel_stats *out);

enum adit_event_kind {
  ADIT_EVENT_OPEN = 1,     /* visitors can reach the tunnel */
  ADIT_EVENT_RECONNECTING, /* the link was lost; established streams go on */
  ADIT_EVENT_RESTORED,     /* same addresses as before */
  ADIT_EVENT_WARNING,      /* text says what and what to do */
  ADIT_EVENT_SUPERSEDED,   /* a newer agent with the same ticket took the address; final */
  ADIT_EVENT_CLOSED        /* final; error and text say why */
};
struct adit_event {
  enum adit_event_kind kind;
  struct adit_tunnel *tunnel;      /* NULL when it concerns the client */
  int error;                       /* enum adit_errno */
  const char *reason;              /* one word, such as "token_revoked" */
  char text[512];
};
/* The next event: 1 and *event, 0 when there is none within timeout_ms (0: do not wait; < 0: no limit), or negative. */
ADIT_EXPORT int adit_next_event(struct adit_client *client, struct adit_event *event, int timeout_ms);
/* Readable while an event is waiting; for poll(). Owned by the client. */
ADIT_EXPORT int adit_event_fd(const struct adit_client *client);

#ifdef __cplusplus
}
#endif
#endif
