/* Finds the host behind NAT: the flow that others saw as coming from ADDRESS:PORT.
 *
 * Operators of shared addresses receive such queries (RFC 6888, RFC 6302) with a public address, a port, and perhaps a
 * time. Keeps the flows whose source was translated to it, and annotates them with the real source and the peer. On a
 * stream of events the output is a log of NAT.
 */
#include "../flowgate.h"

/* The translated source; any address or any port if it is not given. */
static struct {
  bool any_address, any_port;
  uint64_t hi, lo, port;
} wanted;

static void plugin_describe(fg_description *description) {
  fg_describe(description, "behind-nat", "1.0.0", "Says whose flow was seen as coming from a translated address",
              FG_TUPLES | FG_FIELD(STATUS));
  fg_option(description, "public", "ADDRESS", "address that sources are translated to; any if not given", NULL, false);
  fg_option(description, "port", "PORT", "port that sources are translated to; any if not given", NULL, false);
}

/* Parses a dotted IPv4 address. */
static bool ipv4(fg_text text, uint64_t *lo) {
  uint64_t bits = 0;
  for (int part = 0; part < 4; part++) {
    size_t length = 0;
    uint64_t number;
    while (length < text.len && text.ptr[length] != '.') length++;
    if (length > 3 || !fg_number((fg_text){text.ptr, length}, &number) || number > 255) return false;
    bits = bits << 8 | number;
    if ((part < 3) != (length < text.len)) return false;
    if (part < 3) text = (fg_text){text.ptr + length + 1, text.len - length - 1};
  }
  *lo = UINT64_C(0xffff00000000) | bits;
  return true;
}

/* Parses an IPv6 address (RFC 4291), without a zone and without a dotted end. */
static bool ipv6(fg_text text, uint64_t *hi, uint64_t *lo) {
  uint16_t groups[8] = {0};
  int count = 0, gap = -1;
  size_t at = 0;
  if (text.len >= 2 && text.ptr[0] == ':' && text.ptr[1] == ':') gap = 0, at = 2;
  while (at < text.len) {
    unsigned value = 0, digits = 0;
    for (; at < text.len && text.ptr[at] != ':'; at++, digits++) {
      uint8_t c = text.ptr[at] | 0x20;
      if (c >= '0' && c <= '9' && digits < 4) value = value << 4 | (unsigned)(c - '0');
      else if (c >= 'a' && c <= 'f' && digits < 4) value = value << 4 | (unsigned)(c - 'a' + 10);
      else return false;
    }
    if (digits == 0 || count == 8) return false;
    groups[count++] = (uint16_t)value;
    if (at == text.len) break;
    at++;
    if (at < text.len && text.ptr[at] == ':') {
      if (gap >= 0) return false;
      gap = count, at++;
    } else if (at == text.len) {
      return false;
    }
  }
  if (gap < 0 ? count != 8 : count > 7) return false;
  if (gap >= 0) {
    int behind = count - gap;
    memmove(groups + 8 - behind, groups + gap, (size_t)behind * sizeof *groups);
    for (int i = gap; i < 8 - behind; i++) groups[i] = 0;
  }
  *hi = *lo = 0;
  for (int i = 0; i < 4; i++) *hi = *hi << 16 | groups[i], *lo = *lo << 16 | groups[i + 4];
  return true;
}

static const char *plugin_configure(const fg_setup *setup) {
  fg_text address = fg_value(setup, "public"), port = fg_value(setup, "port");
  wanted.any_address = address.ptr == NULL;
  wanted.any_port = port.ptr == NULL;
  if (!wanted.any_address && !ipv4(address, &wanted.lo) && !ipv6(address, &wanted.hi, &wanted.lo))
    return "option public: it is no IP address; write it as 198.51.100.1 or 2001:db8::1";
  if (!wanted.any_port && (!fg_number(port, &wanted.port) || wanted.port > 65535))
    return "option port: it is no number from 0 to 65535";
  return NULL;
}

static bool has_ports(uint8_t protocol) {
  return protocol == FG_TCP || protocol == FG_UDP || protocol == FG_SCTP || protocol == FG_DCCP || protocol == FG_UDPLITE;
}

/* Writes a group of an IPv6 address. */
static char *hex(char *page, uint16_t group) {
  bool begun = false;
  for (int shift = 12; shift >= 0; shift -= 4) {
    unsigned digit = group >> shift & 15;
    begun |= digit != 0 || shift == 0;
    if (begun) *page++ = "0123456789abcdef"[digit];
  }
  return page;
}

/* Writes an address (RFC 5952), and its port if there is one. */
static void write_end(char page[64], uint8_t family, uint8_t protocol, fg_end end) {
  char digits[21], *out = page;
  bool ports = has_ports(protocol);
  if (family == FG_IPV4) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      out = stpcpy(out, fg_decimal(digits, end.lo >> shift & 255));
      if (shift > 0) *out++ = '.';
    }
  } else {
    uint16_t groups[8];
    int start = -1, longest = 1;
    for (int i = 0; i < 8; i++) groups[i] = (uint16_t)((i < 4 ? end.hi : end.lo) >> (48 - i % 4 * 16));
    for (int i = 0; i < 8; i++) {
      int last = i;
      while (last < 8 && groups[last] == 0) last++;
      if (last - i > longest) start = i, longest = last - i;
    }
    if (ports) *out++ = '[';
    for (int i = 0; i < 8; i++) {
      if (i == start) {
        *out++ = ':';
        if (i == 0) *out++ = ':';
        i += longest - 1;
        continue;
      }
      out = hex(out, groups[i]);
      if (i < 7) *out++ = ':';
    }
    if (ports) *out++ = ']';
  }
  if (ports) *out++ = ':', out = stpcpy(out, fg_decimal(digits, end.port));
  *out = 0;
}

static void plugin_process(const fg_flows *batch, fg_outcome *outcome) {
  uint8_t *verdicts = fg_verdicts(batch, outcome);
  for (uint32_t row = 0; row < batch->length; row++) {
    if (!fg_has(batch, row, FG_FIELD(SOURCE) | FG_FIELD(REPLY_DESTINATION))) continue;
    uint8_t family = fg_family(batch, row), protocol = fg_protocol(batch, row);
    /* Replies go to the translated source. */
    fg_end real = fg_source(&batch->original, row), seen = fg_destination(&batch->reply, row);
    /* Only for protocols with ports: an ICMP reply has its type in this place. */
    if (!has_ports(protocol)) real.port = seen.port = 0;
    if (real.hi == seen.hi && real.lo == seen.lo && real.port == seen.port) continue;
    if (!wanted.any_address && (seen.hi != wanted.hi || seen.lo != wanted.lo)) continue;
    if (!wanted.any_port && (!has_ports(protocol) || seen.port != wanted.port)) continue;
    char page[64];
    verdicts[row] = 1;
    write_end(page, family, protocol, real);
    fg_annotate(outcome, row, "inside", page);
    write_end(page, family, protocol, seen);
    fg_annotate(outcome, row, "outside", page);
    write_end(page, family, protocol, fg_destination(&batch->original, row));
    fg_annotate(outcome, row, "peer", page);
  }
}
