/* `adit status`: asks a relay's admin port by the smallest HTTP/1.0 client that can, and shows the answer to a person
   or a program. The answer is bounded in size and time. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/limits.h"
#include "base/text.h"
#include "base/words.h"
#include "cli/command.h"
#include "cli/json.h"
#include "cli/status.h"
#include "wire/certificate.h"

struct status_arguments { const char *admin; bool json; };

#define AT(member) .offset = offsetof(struct status_arguments, member)
static const struct option_row status_rows[] = {
  {.name = "admin", .value = "ADDR:PORT", .kind = OPTION_TEXT, AT(admin),
   .help = "The relay's admin address; a bare PORT means loopback (default: 127.0.0.1:9090)."},
  {.name = "json", .kind = OPTION_FLAG, AT(json), .help = "Print the relay's JSON as it is."},
};

/* 0 when fd is ready, ERR_TIMEOUT after the deadline. */
static int wait_ready(int fd, short events, uint64_t deadline_ms) {
  for (;;) {
    uint64_t now = clock_ms();
    if (now >= deadline_ms) return ERR_TIMEOUT;
    struct pollfd p = {.fd = fd, .events = events};
    int n = poll(&p, 1, (int)(deadline_ms - now));
    if (n > 0) return 0;
    if (n < 0 && errno != EINTR) return ERR_IO;
  }
}

static int connect_to(const struct addr *to, uint64_t deadline_ms, int *out) {
  int fd = socket(to->u.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return ERR_IO;
  int failure = 0;
  socklen_t n = sizeof failure;
  if (connect(fd, &to->u.any, addr_len(to)) != 0) {
    if (errno != EINPROGRESS) goto fail;
    errno = ETIMEDOUT;
    if (wait_ready(fd, POLLOUT, deadline_ms) != 0) goto fail;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &n) != 0) goto fail;
    errno = failure;
    if (failure != 0) goto fail;
  }
  *out = fd;
  return 0;
fail:
  failure = errno;
  close(fd);
  errno = failure;
  return ERR_IO;
}

/* Its texts say why and what to do only. */
static int read_all(int fd, uint64_t deadline_ms, struct buf *b, struct err *e) {
  for (;;) {
    uint8_t *room = buf_reserve(b, 16384);
    if (room == NULL)
      return err_set(e, ERR_LIMIT, "the answer is longer than %d bytes (is that the admin port of a relay?)",
                     STATUS_MAX_BYTES);
    ssize_t n = recv(fd, room, 16384, 0);
    if (n == 0) return 0;
    if (n > 0) {
      buf_added(b, (size_t)n);
      continue;
    }
    if (errno == EINTR) continue;
    if (errno != EAGAIN) return err_set(e, ERR_IO, "%s (is that the admin port of a relay?)", strerror(errno));
    if (wait_ready(fd, POLLIN, deadline_ms) != 0)
      return err_set(e, ERR_TIMEOUT, "no complete answer within %d s (is that the admin port of a relay?)",
                     STATUS_DEADLINE_MS / 1000);
  }
}

int status_body(const char *answer, size_t n, const char **body, size_t *body_n, struct err *e) {
  const char *blank = memmem(answer, n, "\r\n\r\n", 4);
  if (n < 12 || memcmp(answer, "HTTP/1.", 7) != 0 || answer[8] != ' ' || blank == NULL)
    return err_set(e, ERR_SYNTAX, "status: the answer is not HTTP (is that the admin port?)");
  if (memcmp(answer + 9, "200", 3) != 0)
    return err_set(e, ERR_NOT_NOW, "status: the relay answers %.3s (is that the admin port of a relay?)", answer + 9);
  *body = blank + 4;
  *body_n = n - (size_t)(*body - answer);
  return 0;
}

static int fetch(const struct addr *admin, struct buf *b, struct err *e) {
  static const char request[] = "GET /status HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  char where[64];
  uint64_t deadline_ms = clock_ms() + STATUS_DEADLINE_MS;
  int fd, code;
  addr_format(admin, where, sizeof where);
  if (connect_to(admin, deadline_ms, &fd) != 0)
    return err_set(e, ERR_IO, "status: %s: %s (is that the admin port of a relay that runs, by --admin %s?)", where,
                   strerror(errno), where);
  if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) != (ssize_t)sizeof request - 1)
    code = err_set(e, ERR_IO, "%s (is that the admin port of a relay?)", strerror(errno));
  else
    code = read_all(fd, deadline_ms, b, e);
  close(fd);
  return code == 0 ? 0 : err_prefix(e, "status: %s", where);
}

static void format_age(uint64_t s, char *out, size_t cap) {
  if (s >= 86400)
    (void)snprintf(out, cap, "%" PRIu64 "d%" PRIu64 "h", s / 86400, s % 86400 / 3600);
  else if (s >= 3600)
    (void)snprintf(out, cap, "%" PRIu64 "h%" PRIu64 "m", s / 3600, s % 3600 / 60);
  else if (s >= 60)
    (void)snprintf(out, cap, "%" PRIu64 "m%" PRIu64 "s", s / 60, s % 60);
  else
    (void)snprintf(out, cap, "%" PRIu64 "s", s);
}

/* A relay of before tells its end only. */
static void put_certificate(FILE *to, struct json status) {
  struct json valid = json_member(status, "certificate_valid");
  char begins[TIME_TEXT_CHARS + 1], expires[TIME_TEXT_CHARS + 1];
  int64_t expires_s = (int64_t)json_u64(json_member(status, "certificate_expires_at_s"));
  if (expires_s <= 0) return;
  text_of_time(expires_s, expires);
  (void)fprintf(to, "certificate  until %s", expires);
  if (valid.at != NULL && !json_is_true(valid)) {
    text_of_time((int64_t)json_u64(json_member(status, "certificate_begins_at_s")), begins);
    (void)fprintf(to, ", from %s: NOT VALID NOW", begins);
  }
  (void)fputc('\n', to);
}

static void put_summary(FILE *to, struct json status) {
  struct json metrics = json_member(status, "metrics");
  char domain[HOST_NAME_MAX_CHARS + 1], version[64], in[32], out[32], age[48];
  json_text(json_member(status, "domain"), domain, sizeof domain);
  json_text(json_member(status, "version"), version, sizeof version);
  text_of_bytes(json_u64(json_member(metrics, "bytes_from_visitors_total")), in, sizeof in);
  text_of_bytes(json_u64(json_member(metrics, "bytes_to_visitors_total")), out, sizeof out);
  format_age(json_u64(json_member(status, "uptime_s")), age, sizeof age);
  (void)fprintf(to, "relay        %s, adit %s%s, up %s\n", domain, version,
                json_is_true(json_member(status, "draining")) ? ", draining" : "", age);
  (void)fprintf(to, "links        %" PRIu64 " now, %" PRIu64 " in all, %" PRIu64 " refused\n",
                json_u64(json_member(metrics, "links_now")),
                json_u64(json_member(metrics, "links_total")), json_u64(json_member(metrics, "links_refused_total")));
  (void)fprintf(to, "streams      %" PRIu64 " now, %" PRIu64 " in all\n", json_u64(json_member(metrics, "streams_now")),
                json_u64(json_member(metrics, "streams_total")));
  (void)fprintf(to, "bytes        %s from visitors, %s to visitors\n", in, out);
  (void)fprintf(to, "descriptors  %" PRIu64 " of %" PRIu64 "\n", json_u64(json_member(status, "descriptors_now")),
                json_u64(json_member(status, "descriptors_max")));
  put_certificate(to, status);
}

static void put_tunnels(FILE *to, struct json tunnels) {
  const char *at = NULL;
  struct json tunnel;
  bool first = true;
  while (json_next(tunnels, &at, NULL, &tunnel)) {
    char host[HOST_NAME_MAX_CHARS + 1], token[CHAIN_NAME_CAP], port[8] = "-";
    char agent[AGENT_SOFTWARE_MAX_CHARS + 1], from[64], age[48];
    json_text(json_member(tunnel, "host"), host, sizeof host);
    json_text(json_member(tunnel, "token"), token, sizeof token);
    json_text(json_member(tunnel, "agent"), agent, sizeof agent);
    json_text(json_member(tunnel, "agent_address"), from, sizeof from);
    format_age(json_u64(json_member(tunnel, "age_s")), age, sizeof age);
    uint64_t tcp_port = json_u64(json_member(tunnel, "tcp_port"));
    if (tcp_port > 0 && tcp_port <= UINT16_MAX) (void)snprintf(port, sizeof port, "%u", (unsigned)tcp_port);
    if (first)
      (void)fprintf(to, "\n%-44s %-20s %-6s %8s %8s  %-8s %s\n", "TUNNEL", "TOKEN", "TCP", "VISITORS", "IN ALL", "AGE",
                    "AGENT");
    first = false;
    (void)fprintf(to, "%-44s %-20s %-6s %8" PRIu64 " %8" PRIu64 "  %-8s %s %s\n", host, token, port,
                  json_u64(json_member(tunnel, "streams_now")), json_u64(json_member(tunnel, "streams_total")), age,
                  agent, from);
  }
  if (first) (void)fputs("\nno tunnels\n", to);
}

/* What has passed, with those who had visitors at all; a relay of before tells nothing of it. */
static void put_tokens(FILE *to, const char *title, struct json tokens) {
  const char *at = NULL;
  struct json token;
  bool first = true;
  while (json_next(tokens, &at, NULL, &token)) {
    char name[CHAIN_NAME_CAP], in[32], out[32];
    uint64_t streams = json_u64(json_member(token, "streams_total"));
    if (streams == 0) continue;
    json_text(json_member(token, "name"), name, sizeof name);
    text_of_bytes(json_u64(json_member(token, "bytes_from_visitors")), in, sizeof in);
    text_of_bytes(json_u64(json_member(token, "bytes_to_visitors")), out, sizeof out);
    if (first)
      (void)fprintf(to, "\n%-24s %8s %8s  %14s %14s\n", title, "VISITORS", "IN ALL", "FROM VISITORS", "TO VISITORS");
    first = false;
    (void)fprintf(to, "%-24s %8" PRIu64 " %8" PRIu64 "  %14s %14s\n", name, json_u64(json_member(token, "streams_now")),
                  streams, in, out);
  }
}

int status_show(FILE *to, const char *text, size_t n, struct err *e) {
  struct json status = json_of(text, n);
  if (status.at == NULL || *status.at != '{' || json_member(status, "metrics").at == NULL)
    return err_set(e, ERR_SYNTAX, "status: the answer is not a relay's (is that the admin port of a relay?)");
  put_summary(to, status);
  put_tunnels(to, json_member(status, "tunnels"));
  put_tokens(to, "TOKEN", json_member(status, "tokens"));
  put_tokens(to, "NARROWED FROM IT", json_member(status, "narrowed"));
  return 0;
}

static int parse_admin(const char *text, struct addr *out, struct err *e) {
  char full[32];
  uint16_t port = ADMIN_PORT_DEFAULT;
  if (text == NULL || text_to_port(text, &port) == 0) {
    (void)snprintf(full, sizeof full, "127.0.0.1:%u", port);
    text = full;
  }
  if (addr_parse(text, out, NULL) == 0) return 0;
  return err_set(e, ERR_USAGE, "--admin %.60s: not an address and a port in numbers (such as 127.0.0.1:%d)", text,
                 ADMIN_PORT_DEFAULT);
}

static int status_main(const struct command *self, int argc, char **argv, uint64_t start_us) {
  (void)start_us;
  struct status_arguments a = {0};
  struct options_parsed parsed;
  struct err e = {0};
  struct addr admin;
  struct buf b;
  int exit_with;
  if (!command_begin(self, &a, argc, argv, &parsed, &exit_with)) return exit_with;
  if (parsed.words_n > 0 || parsed.rest != NULL) {
    (void)err_set(&e, ERR_USAGE, "%.60s: adit status takes only options (see adit status --help)",
                  parsed.words_n > 0 ? parsed.words[0] : "--");
    return command_fail(&e);
  }
  if (parse_admin(a.admin, &admin, &e) != 0) return command_fail(&e);
  buf_init(&b, STATUS_MAX_BYTES);
  const char *body;
  size_t body_n;
  int code = fetch(&admin, &b, &e);
  if (code == 0) code = status_body((const char *)buf_data(&b), b.len, &body, &body_n, &e);
  if (code == 0 && a.json) (void)fwrite(body, 1, body_n, words_out());
  if (code == 0 && !a.json) code = status_show(words_out(), body, body_n, &e);
  buf_free(&b);
  if (code == 0) return EXIT_STATUS_OK;
  (void)command_fail(&e);
  return EXIT_STATUS_FAILED;
}

const struct command command_status = {
  .name = "status",
  .words = "",
  .brief = "show what a relay is doing",
  .purpose = "show a relay's tunnels, streams and traffic.\n"
             "Asks the relay's admin port, so it runs where the relay runs.",
  .examples = "adit status\nadit status --admin 127.0.0.1:9090 --json",
  .options = status_rows,
  .options_n = ARRAY_LEN(status_rows),
  .run = status_main,
};
