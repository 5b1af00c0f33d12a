/* librabbitmq as its examples use it: one connection, one channel, blocking. What a client in C reaches with an ack for
 * each message, or with one `multiple` ack for every BENCH_GATHER of them. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <amqp.h>
#include <amqp_framing.h>
#include <amqp_tcp_socket.h>

#define CHANNEL 1

static long number(const char *name) { return atol(getenv(name)); }

static void fail(const char *what) {
  fprintf(stderr, "%s failed\n", what);
  exit(1);
}

static void must(int status, const char *what) {
  if (status != AMQP_STATUS_OK) {
    fprintf(stderr, "%s: %s\n", what, amqp_error_string2(status));
    exit(1);
  }
}

static void answered(amqp_rpc_reply_t reply, const char *what) {
  if (reply.reply_type != AMQP_RESPONSE_NORMAL) fail(what);
}

/* The stopwatch: what ../stopwatch.py does. */

typedef struct {
  double at, cpu, node;
} moment_t;

static long count, skip, messages;
static moment_t first;

static double node_cpu(void) {
  char path[64], stat[1024] = "";
  unsigned long user = 0, system = 0;
  snprintf(path, sizeof path, "/proc/%s/stat", getenv("BENCH_NODE_PID"));
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  if (!fgets(stat, sizeof stat, file)) stat[0] = 0;
  fclose(file);
  char *after_name = strrchr(stat, ')'); /* the name may hold blanks; utime and stime are fields 14 and 15 */
  if (after_name) sscanf(after_name + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
  return (double)(user + system) / sysconf(_SC_CLK_TCK);
}

static double peak_mib(void) {
  char line[256];
  long kib = 0;
  FILE *file = fopen("/proc/self/status", "r");
  if (!file) return 0;
  while (fgets(line, sizeof line, file))
    if (sscanf(line, "VmHWM: %ld", &kib) == 1) break;
  fclose(file);
  return kib / 1024.0;
}

static double seconds(struct timeval each) { return each.tv_sec + each.tv_usec / 1e6; }

static moment_t moment(void) {
  struct timespec now;
  struct rusage usage;
  clock_gettime(CLOCK_MONOTONIC, &now);
  getrusage(RUSAGE_SELF, &usage);
  return (moment_t){now.tv_sec + now.tv_nsec / 1e9, seconds(usage.ru_utime) + seconds(usage.ru_stime), node_cpu()};
}

static void tick(void) {
  count++;
  if (count == skip) first = moment();
  if (count == messages) {
    moment_t last = moment();
    printf("{\"bench\": {\"messages\": %ld, \"first\": %.9f, \"last\": %.9f, \"cpu_seconds\": %.6f, "
           "\"node_cpu_seconds\": %.6f, \"peak_mib\": %.1f}}\n",
           count - skip, first.at, last.at, last.cpu - first.cpu, last.node - first.node, peak_mib());
    fflush(stdout);
  }
}

/* Publishing, with the place of each confirm that is due. */

static amqp_connection_state_t connection;
static amqp_basic_properties_t properties;
static amqp_bytes_t out;
static long sent, low = 1; /* the lowest publish without a confirm */
static char *confirmed;    /* by number of the publish */
static uint64_t *origin;   /* in a pipe: the delivery that a publish came from */

static void publish(amqp_bytes_t body) {
  sent++;
  must(amqp_basic_publish(connection, CHANNEL, amqp_empty_bytes, out, 1, 0, &properties, body), "basic.publish");
}

static void confirm_one(uint64_t tag) {
  if (confirmed[tag]) return;
  confirmed[tag] = 1;
  if (origin) must(amqp_basic_ack(connection, CHANNEL, origin[tag], 0), "basic.ack");
  tick();
}

/* In a pipe with gathered acks: the first deliveries, as many as are confirmed without a gap. */
static void ack_gathered(long gather) {
  static long acked;
  long upto = low - 1;
  if (upto - acked >= gather || (upto == messages && upto > acked)) {
    must(amqp_basic_ack(connection, CHANNEL, upto, 1), "basic.ack");
    acked = upto;
  }
}

static void on_confirm(const amqp_basic_ack_t *ack) {
  if (ack->multiple)
    for (uint64_t tag = low; tag <= ack->delivery_tag; tag++) confirm_one(tag);
  else
    confirm_one(ack->delivery_tag);
  while (low <= sent && confirmed[low]) low++;
}

static void read_confirm(void) {
  amqp_frame_t frame;
  must(amqp_simple_wait_frame(connection, &frame), "reading a confirm");
  if (frame.frame_type != AMQP_FRAME_METHOD || frame.payload.method.id != AMQP_BASIC_ACK_METHOD)
    fail("something else than a confirm came, which");
  on_confirm(frame.payload.method.decoded);
}

/* The three kinds. */

static void run_publish(void) {
  size_t length = number("BENCH_BODY");
  long in_flight = number("BENCH_IN_FLIGHT");
  amqp_bytes_t body = amqp_bytes_malloc(length);
  memset(body.bytes, 'x', length);
  while (count < messages) {
    while (sent < messages && sent - count < in_flight) publish(body);
    read_confirm();
    amqp_maybe_release_buffers(connection);
  }
  amqp_bytes_free(body);
}

static void run_consume(int no_ack, long gather) {
  amqp_envelope_t envelope;
  while (count < messages) {
    amqp_maybe_release_buffers(connection);
    answered(amqp_consume_message(connection, &envelope, NULL, 0), "reading a delivery");
    tick();
    if (!no_ack && (count % gather == 0 || count == messages))
      must(amqp_basic_ack(connection, CHANNEL, envelope.delivery_tag, gather > 1), "basic.ack");
    amqp_destroy_envelope(&envelope);
  }
}

static void run_pipe(long gather) {
  amqp_envelope_t envelope;
  if (gather == 1) origin = calloc(messages + 1, sizeof *origin);
  while (count < messages) {
    amqp_maybe_release_buffers(connection);
    amqp_rpc_reply_t reply = amqp_consume_message(connection, &envelope, NULL, 0);
    if (reply.reply_type == AMQP_RESPONSE_NORMAL) {
      if (origin) origin[sent + 1] = envelope.delivery_tag;
      publish(envelope.message.body);
      amqp_destroy_envelope(&envelope);
    } else if (reply.library_error == AMQP_STATUS_UNEXPECTED_STATE) { /* a frame that is no delivery: a confirm */
      read_confirm();
      if (!origin) ack_gathered(gather);
    } else {
      fail("reading a delivery");
    }
  }
}

int main(void) {
  const char *kind = getenv("BENCH_KIND");
  long prefetch = number("BENCH_PREFETCH"), gather = number("BENCH_GATHER");
  messages = number("BENCH_MESSAGES");
  skip = number("BENCH_SKIP");
  confirmed = calloc(messages + 1, 1);
  out = amqp_cstring_bytes(getenv("BENCH_OUT"));
  properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG;
  properties.delivery_mode = number("BENCH_PERSISTENT") ? 2 : 1;

  struct amqp_connection_info url;
  char *text = strdup(getenv("BENCH_URL"));
  must(amqp_parse_url(text, &url), "the URL");
  connection = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(connection);
  must(amqp_socket_open(socket, url.host, url.port), "connecting");
  answered(amqp_login(connection, url.vhost, 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, url.user, url.password), "login");
  amqp_channel_open(connection, CHANNEL);
  answered(amqp_get_rpc_reply(connection), "channel.open");

  if (strcmp(kind, "consume")) {
    amqp_confirm_select(connection, CHANNEL);
    answered(amqp_get_rpc_reply(connection), "confirm.select");
  }
  if (strcmp(kind, "publish")) {
    if (prefetch) amqp_basic_qos(connection, CHANNEL, 0, prefetch, 0);
    amqp_basic_consume(connection, CHANNEL, amqp_cstring_bytes(getenv("BENCH_IN")), amqp_empty_bytes, 0, !prefetch, 0,
                       amqp_empty_table);
    answered(amqp_get_rpc_reply(connection), "basic.consume");
  }
  if (!strcmp(kind, "publish")) run_publish();
  else if (!strcmp(kind, "consume")) run_consume(!prefetch, gather);
  else run_pipe(gather);

  answered(amqp_channel_close(connection, CHANNEL, AMQP_REPLY_SUCCESS), "channel.close");
  answered(amqp_connection_close(connection, AMQP_REPLY_SUCCESS), "connection.close");
  must(amqp_destroy_connection(connection), "the end");
  free(text);
  return 0;
}
