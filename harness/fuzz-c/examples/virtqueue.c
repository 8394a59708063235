/* A driver for virtio-crypto devices: PCI transport, one split virtqueue (virtio 1.3 §2.7, §4.1).
 *
 * It asks for SHA-256 digests in stateless mode. Believes nothing that the device writes, unless
 * PLANTED_BUG is defined: then the ID of a used buffer is not compared with the queue's size, as
 * many a driver forgot.
 */
#include <stdlib.h>
#include <string.h>
#include <understudy_fuzz.h>

#define SIZE 8
#define NEXT 1
#define WRITE 2
#define DIGEST 32
#define BROKEN (-5)

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};

struct avail {
    uint16_t flags, idx, ring[SIZE], used_event;
};

struct used_elem {
    uint32_t id, len;
};

struct used {
    uint16_t flags, idx;
    struct used_elem ring[SIZE];
    uint16_t avail_event;
};

struct request {
    uint8_t *memory;
    int in_flight;
};

struct vq {
    us_device *device;
    uint8_t bar, notify_bar;
    uint64_t common, notify, doorbell;
    uint32_t notify_len;
    struct desc *desc;
    struct avail *avail;
    volatile struct used *used;
    uint16_t available, taken;
    struct request *requests; /* by head descriptor */
};

static int get(struct vq *vq, uint64_t at, void *into, size_t len)
{
    return us_bar_read(vq->device, vq->bar, vq->common + at, into, len);
}

static int set(struct vq *vq, uint64_t at, uint64_t value, size_t len)
{
    return us_bar_write(vq->device, vq->bar, vq->common + at, &value, len);
}

static int set_status(struct vq *vq, uint8_t status)
{
    return set(vq, 0x14, status, 1);
}

static int reset(struct vq *vq)
{
    uint8_t status = 1;
    int tries;

    if (set_status(vq, 0))
        return BROKEN;
    for (tries = 0; tries < 100; tries++) {
        if (get(vq, 0x14, &status, 1))
            return BROKEN;
        if (status == 0)
            return 0;
        us_wait(vq->device, 1000);
    }
    return BROKEN;
}

/* Walks the capabilities for the common configuration and the notifications. */
static int find(struct vq *vq)
{
    uint8_t at = 0, id, next, kind, bar, count = 0;
    uint32_t offset, len;
    int found = 0;

    us_config_read(vq->device, 0x34, &at, 1);
    for (at &= 0xfc; at && count < 48; at = next & 0xfc, count++) {
        if (us_config_read(vq->device, at, &id, 1) ||
            us_config_read(vq->device, at + 1, &next, 1))
            return BROKEN;
        if (id != 9)
            continue;
        if (us_config_read(vq->device, at + 3, &kind, 1) ||
            us_config_read(vq->device, at + 4, &bar, 1) ||
            us_config_read(vq->device, at + 8, &offset, 4) ||
            us_config_read(vq->device, at + 12, &len, 4))
            return BROKEN;
        if (kind == 1 && !(found & 1)) {
            vq->bar = bar;
            vq->common = offset;
            found |= 1;
        } else if (kind == 2 && !(found & 2)) {
            vq->notify_bar = bar;
            vq->notify = offset;
            vq->notify_len = len;
            found |= 2;
        }
    }
    return found == 3 ? 0 : BROKEN;
}

static int start(struct vq *vq)
{
    uint64_t iova[3];
    uint16_t command = 6, size, off;
    uint8_t status;

    us_config_write(vq->device, 4, &command, 2);
    if (reset(vq) || set_status(vq, 3))
        return BROKEN;
    /* REVISION_1 and HASH_STATELESS; VERSION_1. */
    if (set(vq, 0x08, 0, 4) || set(vq, 0x0c, 5, 4) || set(vq, 0x08, 1, 4) || set(vq, 0x0c, 1, 4))
        return BROKEN;
    if (set_status(vq, 11) || get(vq, 0x14, &status, 1) || !(status & 8))
        return BROKEN;
    if (set(vq, 0x16, 0, 2) || get(vq, 0x18, &size, 2) || size < SIZE || set(vq, 0x18, SIZE, 2))
        return BROKEN;
    if (get(vq, 0x1e, &off, 2) || (uint64_t)off * 4 + 2 > vq->notify_len)
        return BROKEN;
    vq->doorbell = vq->notify + (uint64_t)off * 4;
    vq->desc = us_dma_alloc(vq->device, sizeof(struct desc) * SIZE, 16, &iova[0]);
    vq->avail = us_dma_alloc(vq->device, sizeof(struct avail), 2, &iova[1]);
    vq->used = us_dma_alloc(vq->device, sizeof(struct used), 4, &iova[2]);
    if (!vq->desc || !vq->avail || !vq->used)
        return BROKEN;
    for (int area = 0; area < 3; area++)
        if (set(vq, 0x20 + 8 * area, iova[area] & 0xffffffff, 4) ||
            set(vq, 0x24 + 8 * area, iova[area] >> 32, 4))
            return BROKEN;
    if (set(vq, 0x1c, 1, 2))
        return BROKEN;
    return set_status(vq, 15);
}

/* Opcode, algorithm and lengths of a stateless hash request, then the data. */
static size_t encode(uint8_t *out, uint16_t len)
{
    const uint32_t head[] = { 0x100, 4, 0, 0, 0, 0, 4, len, DIGEST, 0 };

    memcpy(out, head, sizeof(head));
    memset(out + sizeof(head), 0x5a, len);
    return sizeof(head) + len;
}

static int submit(struct vq *vq, uint16_t len)
{
    uint16_t head;
    uint64_t iova;
    uint8_t bytes[40 + 256];
    size_t count = encode(bytes, len % 256);
    struct request *request;

    for (head = 0; head < SIZE && vq->requests[head].in_flight; head += 2)
        ;
    if (head >= SIZE)
        return 0;
    request = &vq->requests[head];
    request->memory = us_dma_alloc(vq->device, count + DIGEST + 1, 16, &iova);
    if (!request->memory)
        return BROKEN;
    memcpy(request->memory, bytes, count);
    request->memory[count + DIGEST] = 0xff;
    request->in_flight = 1;
    vq->desc[head] = (struct desc){ iova, (uint32_t)count, NEXT, (uint16_t)(head + 1) };
    vq->desc[head + 1] = (struct desc){ iova + count, DIGEST + 1, WRITE, 0 };
    vq->avail->ring[vq->available % SIZE] = head;
    __sync_synchronize();
    vq->avail->idx = ++vq->available;
    return us_bar_write(vq->device, vq->notify_bar, vq->doorbell, "\0", 2);
}

static int in_flight(struct vq *vq)
{
    int count = 0;

    for (int head = 0; head < SIZE; head++)
        count += vq->requests[head].in_flight;
    return count;
}

static int take(struct vq *vq)
{
    uint16_t idx = vq->used->idx;

    if ((uint16_t)(idx - vq->taken) > in_flight(vq))
        return BROKEN;
    while (vq->taken != idx) {
        uint32_t id = vq->used->ring[vq->taken % SIZE].id;
        uint32_t len = vq->used->ring[vq->taken % SIZE].len;

#ifndef PLANTED_BUG
        if (id >= SIZE)
            return BROKEN;
#endif
        if (!vq->requests[id].in_flight || len > DIGEST + 1)
            return BROKEN;
        us_dma_free(vq->device, vq->requests[id].memory);
        vq->requests[id].in_flight = 0;
        vq->taken++;
    }
    return 0;
}

static int collect(struct vq *vq)
{
    int tries;

    for (tries = 0; in_flight(vq) && tries < 1000; tries++) {
        int more = us_wait(vq->device, 1000000);

        if (more < 0 || take(vq))
            return BROKEN;
        if (more == 0 && in_flight(vq))
            return BROKEN;
    }
    return 0;
}

static void stop(struct vq *vq)
{
    reset(vq);
    for (int head = 0; head < SIZE; head++)
        if (vq->requests[head].in_flight)
            us_dma_free(vq->device, vq->requests[head].memory);
    us_dma_free(vq->device, vq->desc);
    us_dma_free(vq->device, vq->avail);
    us_dma_free(vq->device, (void *)vq->used);
}

int us_drive(us_device *device, const us_call *calls, size_t count)
{
    struct vq vq = { .device = device };
    int error;

    vq.requests = calloc(SIZE, sizeof(struct request));
    if (!vq.requests)
        return BROKEN;
    error = find(&vq);
    if (!error) {
        error = start(&vq);
        for (size_t index = 0; !error && index < count; index++) {
            error = submit(&vq, calls[index].how_much);
            if (!error && calls[index].what % 2)
                error = collect(&vq);
        }
        if (!error)
            error = collect(&vq);
        stop(&vq);
    }
    free(vq.requests);
    return error;
}

#ifdef LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return us_run("virtio-crypto", data, size, us_drive);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned int seed)
{
    return us_mutate(data, size, room, seed);
}
#elif !defined(NO_MAIN)
int main(int argc, char **argv)
{
    return us_main(argc, argv, "virtio-crypto", us_drive);
}
#endif
