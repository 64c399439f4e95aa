/* Proxies as users write them. The text holds a password, so no error quotes it, and every copy is wiped. */
#include "agent/http_proxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/secret.h"
#include "base/text.h"
#include "wire/http_connect.h"

enum { HTTP_PORT = 1080, HTTPS_PORT = 443 };

static const char form[] = "write it as http://HOST:PORT, or https://USER:PASSWORD@HOST:PORT";

static int hex_value(char c) {
  const char *digits = "0123456789abcdef", *at = strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c);
  return c == '\0' || at == NULL ? -1 : (int)(at - digits);
}

/* Percent-decoded (RFC 3986 2.1), appended to out; negative: malformed or too long. */
static int decode(const char *p, size_t n, uint8_t *out, size_t *out_n) {
  for (size_t i = 0; i < n; i++) {
    int c = (unsigned char)p[i];
    if (c == '%') {
      int high = i + 2 < n ? hex_value(p[i + 1]) : -1, low = i + 2 < n ? hex_value(p[i + 2]) : -1;
      if (high < 0 || low < 0) return ERR_SYNTAX;
      c = high * 16 + low;
      i += 2;
    }
    /* RFC 7617 2: no controls */
    if (c < ' ' || c == 0x7f || *out_n == PROXY_CREDENTIALS_MAX_BYTES) return ERR_SYNTAX;
    out[(*out_n)++] = (uint8_t)c;
  }
  return 0;
}

/* USER[:PASSWORD] of n characters. */
static int take_credentials(struct http_proxy *proxy, const char *p, size_t n, struct err *e) {
  uint8_t plain[PROXY_CREDENTIALS_MAX_BYTES];
  size_t plain_n = 0;
  const char *colon = memchr(p, ':', n);
  size_t user_n = colon != NULL ? (size_t)(colon - p) : n;
  int r = decode(p, user_n, plain, &plain_n);
  bool has_colon = memchr(plain, ':', plain_n) != NULL;    /* it would end the name */
  if (r == 0) r = plain_n == sizeof plain || has_colon ? ERR_SYNTAX : 0;
  if (r == 0) plain[plain_n++] = ':';
  if (r == 0 && colon != NULL) r = decode(colon + 1, n - user_n - 1, plain, &plain_n);
  if (r == 0 && (proxy->authorization = secret_alloc(PROXY_AUTHORIZATION_CHARS + 1)) == NULL) r = ERR_NOMEM;
  if (r == 0) {
    memcpy(proxy->authorization, "Basic ", 6);
    base64_encode(plain, plain_n, proxy->authorization + 6);
  }
  wipe(plain, sizeof plain);
  if (r == ERR_NOMEM) return err_set(e, r, "out of memory");
  if (r == 0) return 0;
  return err_set(e, ERR_SYNTAX,
                 "user or password cannot be read (write %%40 for @, %%3A for : and %%25 for %%; %d bytes "
                 "at most)",
                 PROXY_CREDENTIALS_MAX_BYTES);
}

static int take_scheme(struct http_proxy *proxy, const char **url, struct err *e) {
  const char *end = strstr(*url, "://");
  if (end == NULL) return 0;       /* as curl has it: http */
  size_t n = (size_t)(end - *url);
  proxy->tls = n == 5 && strncasecmp(*url, "https", n) == 0;
  if (!proxy->tls && !(n == 4 && strncasecmp(*url, "http", n) == 0)) {
    bool socks = n >= 5 && strncasecmp(*url, "socks", 5) == 0;
    return err_set(e, ERR_UNSUPPORTED, "%s is not spoken here (give an HTTP proxy, http:// or https://; or none)",
                   socks ? "SOCKS" : "that kind of proxy");
  }
  *url = end + 3;
  return 0;
}

static int take_url(struct http_proxy *proxy, const char *url, struct err *e) {
  int r = take_scheme(proxy, &url, e);
  if (r != 0) return r;
  size_t n = strcspn(url, "/?#");
  if (url[n] != '\0' && strcmp(url + n, "/") != 0)
    return err_set(e, ERR_SYNTAX, "there is no more than an address in it (%s)", form);
  const char *at = memrchr(url, '@', n), *host = at == NULL ? url : at + 1;
  char text[HOST_NAME_MAX_CHARS + 16];
  size_t host_n = n - (size_t)(host - url);
  if (at != NULL && (r = take_credentials(proxy, url, (size_t)(at - url), e)) != 0) return r;
  if (host_n >= sizeof text) return err_set(e, ERR_SYNTAX, "its host is too long (%s)", form);
  memcpy(text, host, host_n);
  text[host_n] = '\0';
  if (host_port_parse(text, proxy->tls ? HTTPS_PORT : HTTP_PORT, &proxy->at, NULL) != 0)
    return err_set(e, ERR_SYNTAX, "its address cannot be read (%s)", form);
  host_port_format(&proxy->at, text, sizeof text);
  (void)snprintf(proxy->name, sizeof proxy->name, "http%s://%s", proxy->tls ? "s" : "", text);
  return 0;
}

struct http_proxy *http_proxy_new(const char *url, struct err *e) {
  struct http_proxy *proxy = calloc(1, sizeof *proxy);
  int r = proxy == NULL ? err_set(e, ERR_NOMEM, "out of memory") : 0;
  if (r == 0 && strnlen(url, PROXY_URL_MAX_CHARS + 1) > PROXY_URL_MAX_CHARS)
    r = err_set(e, ERR_LIMIT, "it is longer than %d characters (%s)", PROXY_URL_MAX_CHARS, form);
  if (r == 0) r = take_url(proxy, url, e);
  if (r == 0) return proxy;
  http_proxy_free(proxy);
  return NULL;
}

void http_proxy_free(struct http_proxy *p) {
  if (p == NULL) return;
  secret_free(p->authorization, PROXY_AUTHORIZATION_CHARS + 1);
  free(p);
}

/* example.com is example.com and all below it, with or without a dot in front or behind. */
static bool names_host(const char *token, size_t n, const char *host, size_t host_n) {
  if (n > 0 && token[n - 1] == '.') n--;
  if (n > 0 && token[0] == '.') {
    token++;
    n--;
  }
  if (n == 0 || n > host_n || strncasecmp(host + host_n - n, token, n) != 0) return false;
  return n == host_n || host[host_n - n - 1] == '.';
}

static bool names_address(const char *token, size_t n, const struct addr *host) {
  char text[64];
  struct cidr block;
  if (n > 2 && token[0] == '[' && token[n - 1] == ']') {
    token++;
    n -= 2;
  }
  if (n >= sizeof text) return false;
  memcpy(text, token, n);
  text[n] = '\0';
  return cidr_parse(text, &block, NULL) == 0 && cidr_contains(&block, host);
}

bool http_proxy_spares(const char *no_proxy, const char *host) {
  static const char between[] = ", \t";
  if (no_proxy == NULL) return false;
  if (strcmp(no_proxy, "*") == 0) return true;
  struct host_port numeric = {.port = 1};
  struct addr address;
  char text[HOST_NAME_MAX_CHARS + 16];
  (void)snprintf(numeric.host, sizeof numeric.host, "%s", host);
  host_port_format(&numeric, text, sizeof text);
  bool is_address = addr_parse(text, &address, NULL) == 0;
  size_t host_n = strlen(host);
  if (host_n > 0 && host[host_n - 1] == '.') host_n--;
  for (const char *at = no_proxy + strspn(no_proxy, between); *at != '\0'; at += strspn(at, between)) {
    size_t n = strcspn(at, between);
    if (is_address ? names_address(at, n, &address) : names_host(at, n, host, host_n)) return true;
    at += n;
  }
  return false;
}
