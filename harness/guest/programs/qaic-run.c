// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Runs a network on a Cloud AI 100 by nothing but the ioctls that Linux publishes for it
// (drm/qaic_accel.h): load, activate, buffers, slices, execute, wait, deactivate.
//
//   qaic-run [-d DEVICE] [-n RUNS] [-t MILLISECONDS] [-q ELEMENTS] [-r] [-a]
//            [-i FILE]... [-o FILE]... CONTAINER
//
// CONTAINER is a program container in the vendor's format. It says how many inputs and outputs
// there are and how long they are; -i and -o name their files, in order. An input without a file
// is zeros, an output without one is dropped. -n 0 runs until something goes wrong. -r says
// "running" once the first run is over. -a leaves without tidying up: the driver has to do it.
//
// Ends with 0; 1 if a call failed, 2 if the arguments are wrong, 3 if the device refused something.
// What went wrong is one line on standard error.

#define _GNU_SOURCE
#include <drm/qaic_accel.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FAILED = 1, USAGE = 2, REFUSED = 3 };
enum { TO_DEVICE = 1, FROM_DEVICE = 2 };
enum { MESSAGE_MAX = 4096, TENSORS_MAX = 64, ALIGN = 4096 };
// Commands of the vendor's runtime. Each answer has the next number.
enum { LOAD_ELF = 3, UNLOAD_ELF = 7, ACTIVATE = 9, DEACTIVATE = 11 };
// Semaphores of a network in Understudy's containers: docs/qaic.md.
enum { SEM_START = 0, SEM_DONE = 1, SEM_FREE = 2 };

static void end(int code, const char *format, ...)
{
	va_list list;

	fprintf(stderr, "qaic-run: ");
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fputc('\n', stderr);
	exit(code);
}

static void check(int result, const char *what)
{
	if (result < 0)
		end(FAILED, "%s: %s (%d)", what, strerror(errno), errno);
}

// A whole file; the memory is never given back.
static uint8_t *read_file(const char *path, size_t *len)
{
	int fd = open(path, O_RDONLY);
	struct stat about;
	size_t done = 0;
	uint8_t *bytes;

	check(fd, path);
	check(fstat(fd, &about), path);
	bytes = malloc(about.st_size + 1);
	if (!bytes)
		end(FAILED, "%s: no memory", path);
	while (done < (size_t)about.st_size) {
		ssize_t now = read(fd, bytes + done, about.st_size - done);

		check(now, path);
		if (!now)
			break;
		done += now;
	}
	close(fd);
	*len = done;
	return bytes;
}

static void write_file(const char *path, const uint8_t *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	check(fd, path);
	while (len) {
		ssize_t now = write(fd, bytes, len);

		check(now, path);
		bytes += now;
		len -= now;
	}
	check(close(fd), path);
}

static uint64_t number(const uint8_t *at, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value |= (uint64_t)at[i] << 8 * i;
	return value;
}

struct part {
	const uint8_t *data;
	size_t len;
};

// The named segment of a container: header of 40 bytes, entries of 32.
static struct part segment(struct part file, const char *name)
{
	uint64_t base, count, table;

	if (file.len < 40 || number(file.data, 4) != 0x00a1cd7c)
		end(USAGE, "not a program container");
	base = number(file.data + 16, 8);
	count = number(file.data + 24, 8);
	table = number(file.data + 32, 8) - base;
	for (uint64_t i = 0; i < count && table + 32 * (i + 1) <= file.len; i++) {
		const uint8_t *entry = file.data + table + 32 * i;
		uint64_t len = number(entry, 8);
		uint64_t at_name = number(entry + 16, 8) - base;
		uint64_t start = number(entry + 24, 8) - base;

		if (at_name + strlen(name) >= file.len || start + len > file.len)
			end(USAGE, "the container is cut off");
		if (!strcmp((const char *)file.data + at_name, name))
			return (struct part){ file.data + start, len };
	}
	end(USAGE, "the container has no %s", name);
	__builtin_unreachable();
}

static uint64_t varint(struct part *rest)
{
	uint64_t value = 0;

	for (int shift = 0; rest->len && shift < 64; shift += 7) {
		uint8_t byte = *rest->data;

		rest->data++;
		rest->len--;
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return value;
	}
	end(USAGE, "the network descriptor is cut off");
	__builtin_unreachable();
}

// One field of a protobuf message. Numbers come back in value, all else in content.
static unsigned int field(struct part *rest, uint64_t *value, struct part *content)
{
	uint64_t key = varint(rest), len;

	*value = 0;
	*content = (struct part){ NULL, 0 };
	switch (key & 7) {
	case 0:
		*value = varint(rest);
		return key >> 3;
	case 1:
		len = 8;
		break;
	case 2:
		len = varint(rest);
		break;
	default:
		len = 4;
		break;
	}
	if (len > rest->len)
		end(USAGE, "the network descriptor is cut off");
	*content = (struct part){ rest->data, len };
	rest->data += len;
	rest->len -= len;
	return key >> 3;
}

struct tensor {
	int dir;
	size_t len;
	const char *file;
	uint32_t handle;
	uint8_t *memory;
};

static struct tensor tensors[TENSORS_MAX];
static unsigned int tensor_count;

// The DMA buffers of the network descriptor: field 6, with size 1 and direction 2.
static void describe(struct part description)
{
	while (description.len) {
		struct part buffer, none;
		uint64_t value;

		if (field(&description, &value, &buffer) != 6)
			continue;
		if (tensor_count == TENSORS_MAX)
			end(USAGE, "too many inputs and outputs");
		struct tensor *it = &tensors[tensor_count++];

		it->dir = TO_DEVICE;
		while (buffer.len) {
			unsigned int kind = field(&buffer, &value, &none);

			if (kind == 1)
				it->len = value;
			else if (kind == 2 && value)
				it->dir = FROM_DEVICE;
		}
	}
}

// The only message under way: transactions to the device, then those from it.
static _Alignas(8) uint8_t message[MESSAGE_MAX];
static uint32_t message_len, message_count;

static void *append(uint32_t type, size_t len)
{
	struct qaic_manage_trans_hdr *header = (void *)(message + message_len);

	memset(header, 0, len);
	header->type = type;
	header->len = len;
	message_len += len;
	message_count++;
	return header;
}

static uint32_t *append_command(size_t body)
{
	return (uint32_t *)((uint8_t *)append(QAIC_TRANS_PASSTHROUGH_FROM_USR, 8 + body) + 8);
}

// Sends the message. The answer is checked to begin with one to that command.
static const uint32_t *manage(int fd, const char *what, uint32_t command, int at_status)
{
	struct qaic_manage_msg msg = {
		.len = message_len, .count = message_count, .data = (uintptr_t)message,
	};
	int result = ioctl(fd, DRM_IOCTL_QAIC_MANAGE, &msg);
	const uint32_t *words = (const uint32_t *)message;

	message_len = message_count = 0;
	if (result < 0 && errno != ECANCELED)
		check(result, what);
	if (words[0] == QAIC_TRANS_STATUS_FROM_DEV)
		end(REFUSED, "%s: the device refused the message with status %d", what, (int)words[3]);
	if (words[0] != QAIC_TRANS_PASSTHROUGH_FROM_DEV || words[2] != command + 1)
		end(FAILED, "%s: the answer is to something else", what);
	if (words[2 + at_status])
		end(REFUSED, "%s: the device refused it with status %d", what, (int)words[2 + at_status]);
	check(result, what);
	return words + 2;
}

static uint32_t load(int fd, struct part program)
{
	uint32_t *command = append_command(96);
	struct qaic_manage_trans_dma_xfer *transfer;
	const uint64_t len = program.len;

	command[0] = LOAD_ELF;
	command[1] = 77; // the tag of the transfer
	command[2] = getpid();
	memcpy(command + 20, &len, sizeof(len));
	transfer = append(QAIC_TRANS_DMA_XFER_FROM_USR, sizeof(*transfer));
	transfer->tag = 77;
	transfer->addr = (uintptr_t)program.data;
	transfer->size = len;
	return manage(fd, "load", LOAD_ELF, 2)[1];
}

struct active {
	uint32_t id, channel;
	uint64_t memory;
};

static struct active activate(int fd, uint32_t program, uint32_t elements)
{
	const uint32_t words[12] = { ACTIVATE, getpid(), 0, program, 0, -1, 1, -1, 1, 0, 0, 0 };
	struct qaic_manage_trans_activate_to_dev *queue;
	const uint32_t *answer;

	memcpy(append_command(sizeof(words)), words, sizeof(words));
	queue = append(QAIC_TRANS_ACTIVATE_FROM_USR, sizeof(*queue));
	queue->queue_size = elements;
	answer = manage(fd, "activate", ACTIVATE, 1);
	return (struct active){
		.id = answer[2], .channel = answer[3], .memory = number((void *)(answer + 4), 8),
	};
}

static void deactivate(int fd, struct active active, uint32_t program)
{
	const uint32_t words[4] = { DEACTIVATE, active.id, 1, 0 };
	struct qaic_manage_trans_deactivate *channel;
	uint32_t *unload;

	memcpy(append_command(sizeof(words)), words, sizeof(words));
	channel = append(QAIC_TRANS_DEACTIVATE_FROM_USR, sizeof(*channel));
	channel->dbc_id = active.channel;
	manage(fd, "deactivate", DEACTIVATE, 1);
	unload = append_command(16);
	unload[0] = UNLOAD_ELF;
	unload[1] = program;
	manage(fd, "unload", UNLOAD_ELF, 1);
}

// A buffer of the driver's, filled from the file if it is an input.
static void make_buffer(int fd, struct tensor *it)
{
	struct qaic_create_bo create = { .size = it->len ? it->len : 1 };
	struct qaic_mmap_bo map = { 0 };

	check(ioctl(fd, DRM_IOCTL_QAIC_CREATE_BO, &create), "create a buffer");
	it->handle = map.handle = create.handle;
	check(ioctl(fd, DRM_IOCTL_QAIC_MMAP_BO, &map), "map a buffer");
	it->memory = mmap(NULL, create.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, map.offset);
	if (it->memory == MAP_FAILED)
		check(-1, "map a buffer");
	if (it->dir == TO_DEVICE && it->file) {
		size_t len;
		uint8_t *bytes = read_file(it->file, &len);

		if (len != it->len)
			end(USAGE, "%s has %zu bytes, the input has %zu", it->file, len, it->len);
		memcpy(it->memory, bytes, len);
		free(bytes);
	}
}

static struct qaic_sem sem(int command, int index, int value, bool presync)
{
	return (struct qaic_sem){
		.cmd = command, .index = index, .val = value, .presync = presync,
	};
}

// Inputs go in while the network has taken the last ones; outputs come out once they are there.
// A slice may become several requests, each of which waits: so waiting takes nothing away, and the
// last request of a run does. Without inputs, a slice of the first output's that waits for nothing
// starts the run; what it moves is moved again.
static void attach_slice(int fd, const struct tensor *it, bool start, bool last, uint32_t channel,
			 uint64_t at)
{
	const bool input = it->dir == TO_DEVICE;
	const int index = input ? SEM_FREE : SEM_DONE;
	struct qaic_attach_slice_entry slices[2] = {
		{ .size = 1, .sem0 = sem(QAIC_SEM_INC, SEM_START, 0, true), .dev_addr = at },
		{
			.size = it->len,
			.sem0 = sem(QAIC_SEM_WAIT_GT_EQ, index, 1, true),
			.dev_addr = at,
		},
	};
	struct qaic_attach_slice_entry *slice = slices + 1;
	struct qaic_attach_slice attach = {
		.hdr = {
			.count = start ? 2 : 1, .dbc_id = channel, .handle = it->handle,
			.dir = it->dir, .size = it->len,
		},
		.data = (uintptr_t)(start ? slices : slice),
	};

	if (last) {
		slice->sem1 = sem(QAIC_SEM_DEC, index, 0, false);
		if (input) {
			slice->sem2 = sem(QAIC_SEM_INC, SEM_START, 0, false);
			slice->sem2.flags = QAIC_SEM_INSYNCFENCE;
		}
	}
	check(ioctl(fd, DRM_IOCTL_QAIC_ATTACH_SLICE_BO, &attach), "attach a slice");
}

static uint64_t microseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000ull + now.tv_nsec / 1000;
}

int main(int argc, char **argv)
{
	const char *device = "/dev/accel/accel0", *files[2][TENSORS_MAX];
	unsigned long runs = 1, timeout = 20000, elements = 64;
	unsigned int file_count[2] = { 0, 0 }, seen[2] = { 0, 0 };
	struct qaic_execute_entry entries[TENSORS_MAX];
	bool tell = false, abandon = false;
	struct part file, program;
	struct active active;
	uint64_t at, start;
	uint32_t loaded;
	int option, fd;

	while ((option = getopt(argc, argv, "d:n:t:q:i:o:ra")) != -1) {
		const int output = option == 'o';

		switch (option) {
		case 'd':
			device = optarg;
			break;
		case 'n':
			runs = strtoul(optarg, NULL, 10);
			break;
		case 't':
			timeout = strtoul(optarg, NULL, 10);
			break;
		case 'q':
			elements = strtoul(optarg, NULL, 10);
			break;
		case 'r':
			tell = true;
			break;
		case 'a':
			abandon = true;
			break;
		case 'i':
		case 'o':
			if (file_count[output] < TENSORS_MAX) {
				files[output][file_count[output]++] = optarg;
				break;
			}
			// fall through
		default:
			end(USAGE, "see the head of qaic-run.c");
		}
	}
	if (optind + 1 != argc)
		end(USAGE, "one container is needed");

	file.data = read_file(argv[optind], &file.len);
	program = segment(file, "network.elf");
	describe(segment(file, "networkdesc.bin"));
	for (unsigned int i = 0; i < tensor_count; i++) {
		const int output = tensors[i].dir == FROM_DEVICE;

		if (seen[output] < file_count[output])
			tensors[i].file = files[output][seen[output]];
		seen[output]++;
	}
	if (file_count[0] > seen[0] || file_count[1] > seen[1])
		end(USAGE, "the network has %u inputs and %u outputs", seen[0], seen[1]);

	fd = open(device, O_RDWR);
	check(fd, device);
	loaded = load(fd, program);
	active = activate(fd, loaded, elements);
	at = active.memory;
	for (unsigned int i = 0; i < tensor_count; i++) {
		struct tensor *it = &tensors[i];
		const bool last = i + 1 == tensor_count || tensors[i + 1].dir != it->dir;

		make_buffer(fd, it);
		attach_slice(fd, it, !seen[0] && !i, last, active.channel, at);
		at = (at + it->len + ALIGN - 1) / ALIGN * ALIGN;
		entries[i] = (struct qaic_execute_entry){ .handle = it->handle, .dir = it->dir };
	}

	start = microseconds();
	for (unsigned long run = 0; !runs || run < runs; run++) {
		struct qaic_execute execute = {
			.hdr = { .count = tensor_count, .dbc_id = active.channel },
			.data = (uintptr_t)entries,
		};

		check(ioctl(fd, DRM_IOCTL_QAIC_EXECUTE_BO, &execute), "execute");
		for (unsigned int i = 0; i < tensor_count; i++) {
			struct qaic_wait wait = {
				.handle = tensors[i].handle, .dbc_id = active.channel,
				.timeout = timeout,
			};

			check(ioctl(fd, DRM_IOCTL_QAIC_WAIT_BO, &wait), "wait");
		}
		if (tell && !run) {
			puts("running");
			fflush(stdout);
		}
	}
	printf("{\"runs\":%lu,\"microseconds\":%llu}\n", runs,
	       (unsigned long long)(microseconds() - start));
	for (unsigned int i = 0; i < tensor_count; i++)
		if (tensors[i].dir == FROM_DEVICE && tensors[i].file)
			write_file(tensors[i].file, tensors[i].memory, tensors[i].len);
	if (!abandon)
		deactivate(fd, active, loaded);
	return 0;
}
