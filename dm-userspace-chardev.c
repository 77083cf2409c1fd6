// SPDX-License-Identifier: GPL-2.0-only
/*
 * A transport: framed messages over read and write of /dev/dm-userspaceN.
 *
 * This file knows the wire format and user space; it never sees a bio. See
 * include/linux/dm-userspace.h for the messages, and Documentation/protocol.rst
 * for what they mean and how the calls behave.
 */
#include "dm-user.h"
#include <linux/cdev.h>
#include <linux/dm-userspace.h>
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/kdev_t.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#define DMU_CHUNK 64 /* messages that are read under one lock */

static_assert(sizeof(struct dmu_msg_header) == 12);
static_assert(sizeof(struct dmu_msg_version) == 8);
static_assert(sizeof(struct dmu_msg_status) == 8);
static_assert(sizeof(struct dmu_msg_map_request) == 16);
static_assert(sizeof(struct dmu_msg_map_response) == 48);
static_assert(offsetof(struct dmu_msg_map_response, offset) == 16);
static_assert(offsetof(struct dmu_msg_map_response, dst_min) == 44);
static_assert(sizeof(struct dmu_msg_invalidate_map) == 8);
static_assert(sizeof(struct dmu_msg_extensions) == 8);
static_assert(sizeof(struct dmu_msg_report) == 24);
static_assert(sizeof(struct dmu_msg_discard) == 16);
static_assert(sizeof(struct dmu_msg_run_request) == 16);
static_assert(sizeof(struct dmu_msg_run_response) == 56);

#define DMU_KERNEL_FLAGS (DMU_FLAG_VALID | DMU_FLAG_INUSE | DMU_FLAG_WAITING)
#define DMU_DAEMON_FLAGS (DMU_FLAG_RD | DMU_FLAG_WR | DMU_FLAG_COPY_FIRST | \
			  DMU_FLAG_TEMPORARY | DMU_FLAG_SYNC)

#define DMU_EXTENSIONS (DMU_EXT_REPORTS | DMU_EXT_DISCARD | DMU_EXT_RUNS)

#define DMU_MAX_OUT (sizeof(struct dmu_msg_header) + \
		     sizeof(struct dmu_msg_report))
#define DMU_LEAST_OUT (sizeof(struct dmu_msg_header) + \
		       sizeof(struct dmu_msg_status))
#define DMU_MIN_OUT (sizeof(struct dmu_msg_header) + \
		     sizeof(struct dmu_msg_map_request))

/**
 * struct dmu_node - a control device
 * @dev: its life: until it is closed by the core and by every file
 * @cdev: likewise
 * @space: that it controls; NULL once the last table is gone (nodes_lock)
 */
struct dmu_node {
	struct device dev;
	struct cdev cdev;
	struct dmu_space *space;
};

/**
 * struct dmu_file - an open control device
 * @peer: the core's side
 * @read_lock: one reader at a time; protects @events and @out
 * @write_lock: one writer at a time; protects @in
 * @events: what is being read
 * @out: the same, framed
 * @in: what is being written
 * @replies_lock: protects @replies
 * @replies: what it has asked of the transport, and not read yet
 */
struct dmu_file {
	struct dmu_peer *peer;
	struct mutex read_lock; /* one reader at a time */
	struct mutex write_lock; /* one writer at a time */
	spinlock_t replies_lock; /* protects replies */
	struct list_head replies;
	struct dmu_event events[DMU_CHUNK];
	u8 out[DMU_CHUNK * DMU_MAX_OUT];
	u8 in[PAGE_SIZE];
};

/**
 * struct dmu_reply - an answer that the transport gives by itself
 * @node: in file->replies
 * @type: GET_VERSION or EXTENSIONS
 * @id: of the question
 * @len: of the payload
 * @version: the payload
 * @extensions: likewise
 */
struct dmu_reply {
	struct list_head node;
	u32 type;
	u32 id;
	u32 len;
	union {
		struct dmu_msg_version version;
		struct dmu_msg_extensions extensions;
	};
};

static DEFINE_MUTEX(nodes_lock);
static DEFINE_IDA(minors);
static dev_t first_devt;

/* --- read ------------------------------------------------------------------------ */

static size_t put_message(u8 *to, u32 type, u32 id, const void *payload,
			  u32 len)
{
	struct dmu_msg_header header = {
		.msg_type = type,
		.payload_len = len,
		.id = id,
	};

	memcpy(to, &header, sizeof(header));
	memcpy(to + sizeof(header), payload, len);
	return sizeof(header) + len;
}

static size_t put_status(u8 *to, u32 id, u32 status)
{
	struct dmu_msg_status payload = { .id_of_op = id, .status = status };

	return put_message(to, DM_USERSPACE_STATUS, id, &payload,
			   sizeof(payload));
}

static size_t put_report(u8 *to, const struct dmu_event *event)
{
	static const u32 reports[] = {
		[DMU_COPY_FAILED] = DMU_REPORT_COPY_FAILED,
		[DMU_IO_FAILED] = DMU_REPORT_IO_FAILED,
		[DMU_TIMED_OUT] = DMU_REPORT_TIMED_OUT,
		[DMU_LOST] = DMU_REPORT_LOST,
	};
	struct dmu_msg_report payload = {
		.block = event->report == DMU_LOST ? event->count :
						     event->block,
		.id_of_req = event->id,
		.report = reports[event->report],
		.error = event->error,
	};

	return put_message(to, DM_USERSPACE_REPORT, 0, &payload,
			   sizeof(payload));
}

static size_t put_discard(u8 *to, const struct dmu_event *event)
{
	struct dmu_msg_discard payload = {
		.block = event->block,
		.count = event->count,
	};

	return put_message(to, DM_USERSPACE_DISCARD, 0, &payload,
			   sizeof(payload));
}

static size_t put_run(u8 *to, const struct dmu_event *event)
{
	struct dmu_msg_run_request payload = {
		.block = event->block,
		.count = event->count,
		.flags = DMU_FLAG_RD | (event->write ? DMU_FLAG_WR : 0),
	};

	return put_message(to, DM_USERSPACE_MAP_RUN_REQ, event->id, &payload,
			   sizeof(payload));
}

static size_t put_event(u8 *to, const struct dmu_event *event)
{
	struct dmu_msg_map_request request = { .org_block = event->block };

	switch (event->type) {
	case DMU_EVENT_REPORT:
		return put_report(to, event);
	case DMU_EVENT_DISCARD:
		return put_discard(to, event);
	case DMU_EVENT_SYNC:
		return put_status(to, event->id, DM_USERSPACE_SYNC_COMPLETE);
	case DMU_EVENT_INVALIDATED:
		return put_status(to, event->id, event->found ?
				  DM_USERSPACE_INVAL_COMPLETE :
				  DM_USERSPACE_INVAL_FAILED);
	case DMU_EVENT_REQUEST:
		break;
	}
	if (event->count > 1)
		return put_run(to, event);
	request.flags = DMU_FLAG_RD | (event->write ? DMU_FLAG_WR : 0);
	return put_message(to, DM_USERSPACE_MAP_BLOCK_REQ, event->id, &request,
			   sizeof(request));
}

static size_t put_events(struct dmu_file *file, unsigned int nr)
{
	unsigned int i;
	size_t len = 0;

	for (i = 0; i < nr; i++)
		len += put_event(file->out + len, &file->events[i]);
	return len;
}

static u32 kernel_version(void)
{
	return DMU_VERSION_MAJOR << 16 | DMU_VERSION_MINOR << 8 |
	       DMU_VERSION_PATCH;
}

static struct dmu_reply *first_reply(struct dmu_file *file)
{
	struct dmu_reply *reply;

	spin_lock(&file->replies_lock);
	reply = list_first_entry_or_null(&file->replies, struct dmu_reply,
					 node);
	spin_unlock(&file->replies_lock);
	return reply;
}

/* One answer of the transport's own. 0 where none waits. */
static ssize_t read_reply(struct dmu_file *file, char __user *buf,
			  size_t count)
{
	struct dmu_reply *reply = first_reply(file);
	size_t len;

	if (!reply)
		return 0;
	len = put_message(file->out, reply->type, reply->id, &reply->version,
			  reply->len);
	if (len > count)
		return -EINVAL;
	if (copy_to_user(buf, file->out, len))
		return -EFAULT;
	spin_lock(&file->replies_lock);
	list_del(&reply->node);
	spin_unlock(&file->replies_lock);
	kfree(reply);
	return len;
}

/*
 * As many events as surely fit, at most a chunk. 0 where none waits. Notices are
 * longer than what a daemon gets that does not know them.
 */
static ssize_t read_events(struct dmu_file *file, char __user *buf,
			   size_t count)
{
	size_t one = READ_ONCE(file->peer->wants) ? DMU_MAX_OUT : DMU_MIN_OUT;
	unsigned int max = clamp_t(size_t, count / one, 1, DMU_CHUNK);
	unsigned int nr;
	size_t len;

again:
	nr = dmu_peer_take(file->peer, file->events, max);
	len = put_events(file, nr);
	if (len > count && nr > 1) {
		/* It has only just said that it wants notices. */
		dmu_peer_untake(file->peer, file->events, nr);
		max = 1;
		goto again;
	}
	if (len <= count && !copy_to_user(buf, file->out, len)) {
		dmu_peer_taken(file->peer);
		return len;
	}
	dmu_peer_untake(file->peer, file->events, nr);
	return len > count ? -EINVAL : -EFAULT;
}

/* What waits now. 0 where nothing does. */
static ssize_t read_messages(struct dmu_file *file, char __user *buf,
			     size_t count)
{
	size_t done = 0;
	ssize_t r;

	do {
		r = read_reply(file, buf + done, count - done);
		if (!r)
			r = read_events(file, buf + done, count - done);
		if (r > 0)
			done += r;
	} while (r > 0 && count - done >= DMU_LEAST_OUT);
	return done ? done : r;
}

static bool file_readable(struct dmu_file *file)
{
	return dmu_list_waits(&file->replies) ||
	       dmu_peer_readable(file->peer);
}

static ssize_t dmu_read(struct file *filp, char __user *buf, size_t count,
			loff_t *pos)
{
	struct dmu_file *file = filp->private_data;
	unsigned int noio = memalloc_noio_save();
	ssize_t r;

	for (;;) {
		r = mutex_lock_interruptible(&file->read_lock);
		if (r)
			break;
		r = dmu_peer_gone(file->peer) ? 0 :
		    read_messages(file, buf, count) ?: -EAGAIN;
		mutex_unlock(&file->read_lock);
		if (r != -EAGAIN || filp->f_flags & O_NONBLOCK)
			break;
		r = wait_event_interruptible(file->peer->space->readers,
					     file_readable(file) ||
					     dmu_peer_gone(file->peer));
		if (r)
			break;
	}
	memalloc_noio_restore(noio);
	return r;
}

static __poll_t dmu_poll(struct file *filp, poll_table *wait)
{
	struct dmu_file *file = filp->private_data;

	poll_wait(filp, &file->peer->space->readers, wait);
	if (dmu_peer_gone(file->peer))
		return EPOLLIN | EPOLLRDNORM | EPOLLHUP;
	return EPOLLOUT | EPOLLWRNORM |
	       (file_readable(file) ? EPOLLIN | EPOLLRDNORM : 0);
}

/* --- write ----------------------------------------------------------------------- */

static struct dmu_reply *reply_to(u32 type, u32 id, u32 len)
{
	struct dmu_reply *reply;

	/*
	 * A few bytes, and the protocol knows no way to refuse; whoever asks and
	 * never reads pays for it.
	 */
	reply = kzalloc(sizeof(*reply),
			GFP_NOIO | __GFP_NOFAIL | __GFP_ACCOUNT);
	reply->type = type;
	reply->id = id;
	reply->len = len;
	return reply;
}

static void reply_send(struct dmu_file *file, struct dmu_reply *reply)
{
	spin_lock(&file->replies_lock);
	list_add_tail(&reply->node, &file->replies);
	spin_unlock(&file->replies_lock);
	dmu_space_wake(file->peer->space);
}

static int get_version(struct dmu_file *file, u32 id, const void *payload)
{
	struct dmu_reply *reply = reply_to(DM_USERSPACE_GET_VERSION, id,
					   sizeof(reply->version));

	memcpy(&reply->version, payload, sizeof(reply->version));
	reply->version.kernel_ver = kernel_version();
	reply_send(file, reply);
	return 0;
}

static int get_extensions(struct dmu_file *file, u32 id, const void *payload)
{
	struct dmu_reply *reply = reply_to(DM_USERSPACE_EXTENSIONS, id,
					   sizeof(reply->extensions));
	struct dmu_msg_extensions *msg = &reply->extensions;

	memcpy(msg, payload, sizeof(*msg));
	msg->bits &= DMU_EXTENSIONS;
	dmu_peer_want(file->peer,
		      (msg->bits & DMU_EXT_REPORTS ? DMU_WANTS_REPORTS : 0) |
		      (msg->bits & DMU_EXT_DISCARD ? DMU_WANTS_DISCARDS : 0) |
		      (msg->bits & DMU_EXT_RUNS ? DMU_WANTS_RUNS : 0));
	reply_send(file, reply);
	return 0;
}

static int parse_device(u32 major, u32 minor, dev_t *devt)
{
	*devt = MKDEV(major, minor);
	return MAJOR(*devt) == major && MINOR(*devt) == minor ? 0 : -ENODEV;
}

static int parse_place(u64 block, s64 offset, unsigned int block_shift,
		       sector_t *sector)
{
	s64 start, sum;

	if (block > (u64)S64_MAX >> block_shift)
		return -ERANGE;
	start = block << block_shift;
	if (check_add_overflow(start, offset, &sum) || sum < 0)
		return -ERANGE;
	*sector = sum;
	return 0;
}

static u8 parse_flags(u32 flags)
{
	return (flags & DMU_FLAG_RD ? DMU_RD : 0) |
	       (flags & DMU_FLAG_WR ? DMU_WR : 0) |
	       (flags & DMU_FLAG_COPY_FIRST ? DMU_COPY : 0) |
	       (flags & DMU_FLAG_TEMPORARY ? DMU_TEMPORARY : 0) |
	       (flags & DMU_FLAG_SYNC ? DMU_SYNC : 0);
}

static int get_map_response(struct dmu_file *file, u32 id, const void *payload)
{
	unsigned int shift = file->peer->space->block_shift;
	struct dmu_mapping m = {};
	struct dmu_msg_map_response msg;
	int r;

	memcpy(&msg, payload, sizeof(msg));
	if (msg.flags & ~(DMU_DAEMON_FLAGS | DMU_KERNEL_FLAGS))
		return -EINVAL;
	m.block = msg.org_block;
	m.id = msg.id_of_req;
	m.flags = parse_flags(msg.flags);
	r = parse_device(msg.dst_maj, msg.dst_min, &m.dst);
	if (!r && m.flags & DMU_COPY)
		r = parse_device(msg.src_maj, msg.src_min, &m.src);
	/* No device is a thing of runs. */
	if (!r && (!m.dst || (m.flags & DMU_COPY && !m.src)))
		r = -ENODEV;
	if (!r)
		r = parse_place(msg.new_block, msg.offset, shift,
				&m.dst_sector);
	/* It is -ERANGE then that the mapped device has no such block. */
	m.src_sector = m.block << shift;
	return r ?: dmu_peer_map(file->peer, &m, 1);
}

/* Nothing, of a run that is all zeroes or copied from them, is on no device. */
static int parse_run(const struct dmu_msg_run_response *msg,
		     unsigned int shift, struct dmu_mapping *m)
{
	bool zero = msg->flags & DMU_FLAG_ZERO;
	int r;

	r = parse_device(msg->dst_maj, msg->dst_min, &m->dst);
	if (!r && m->flags & DMU_COPY)
		r = parse_device(msg->src_maj, msg->src_min, &m->src);
	if (r)
		return r;
	if (zero != !m->dst)
		return zero ? -EINVAL : -ENODEV;
	/* So that what follows each other is seen to do so. */
	m->dst_sector = zero ? m->block << shift : msg->dst_sector;
	m->src_sector = m->src ? msg->src_sector : 0;
	return 0;
}

static int get_run_response(struct dmu_file *file, u32 id, const void *payload)
{
	struct dmu_msg_run_response msg;
	struct dmu_mapping m = {};
	int r;

	if (!(READ_ONCE(file->peer->wants) & DMU_WANTS_RUNS))
		return -EINVAL;
	memcpy(&msg, payload, sizeof(msg));
	if (msg.flags & ~(DMU_DAEMON_FLAGS | DMU_KERNEL_FLAGS | DMU_FLAG_ZERO))
		return -EINVAL;
	m.block = msg.block;
	m.id = msg.id_of_req;
	m.flags = parse_flags(msg.flags);
	r = parse_run(&msg, file->peer->space->block_shift, &m);
	return r ?: dmu_peer_map(file->peer, &m, msg.count);
}

static int get_map_failed(struct dmu_file *file, u32 id, const void *payload)
{
	struct dmu_msg_map_response msg;

	memcpy(&msg, payload, sizeof(msg));
	if (msg.flags & ~(DMU_DAEMON_FLAGS | DMU_KERNEL_FLAGS))
		return -EINVAL;
	dmu_peer_fail(file->peer, msg.id_of_req);
	return 0;
}

static int get_invalidate(struct dmu_file *file, u32 id, const void *payload)
{
	struct dmu_msg_invalidate_map msg;

	memcpy(&msg, payload, sizeof(msg));
	return dmu_peer_invalidate(file->peer, msg.org_block, id);
}

static int get_status(struct dmu_file *file, u32 id, const void *payload)
{
	struct dmu_msg_status msg;

	memcpy(&msg, payload, sizeof(msg));
	if (msg.status != DM_USERSPACE_SYNC_COMPLETE)
		return -EINVAL;
	dmu_peer_sync_done(file->peer, msg.id_of_op);
	return 0;
}

/*
 * What a daemon may send, by type. What needs memory that it cannot do without is
 * not got between dmu_peer_begin() and dmu_peer_end(): a daemon that waits there for
 * memory would hold up one that dies, which would hold up all others, and that memory
 * may be had only when one of them has answered.
 */
static const struct {
	u32 len;
	int (*get)(struct dmu_file *file, u32 id, const void *payload);
	bool apart;
} messages[] = {
	[DM_USERSPACE_GET_VERSION] = {
		sizeof(struct dmu_msg_version), get_version, true
	},
	[DM_USERSPACE_EXTENSIONS] = {
		sizeof(struct dmu_msg_extensions), get_extensions, true
	},
	[DM_USERSPACE_MAP_BLOCK_RESP] = {
		sizeof(struct dmu_msg_map_response), get_map_response
	},
	[DM_USERSPACE_MAP_RUN_RESP] = {
		sizeof(struct dmu_msg_run_response), get_run_response
	},
	[DM_USERSPACE_MAP_FAILED] = {
		sizeof(struct dmu_msg_map_response), get_map_failed
	},
	[DM_USERSPACE_MAP_INVALIDATE] = {
		sizeof(struct dmu_msg_invalidate_map), get_invalidate, true
	},
	[DM_USERSPACE_STATUS] = {
		sizeof(struct dmu_msg_status), get_status
	},
};

/*
 * Take the first message of @in. Returns its length, 0 where it is not whole,
 * or why it is refused.
 */
static ssize_t get_message(struct dmu_file *file, const u8 *in, size_t len)
{
	struct dmu_msg_header header;
	int r;

	if (len < sizeof(header))
		return 0;
	memcpy(&header, in, sizeof(header));
	if (header.msg_type >= ARRAY_SIZE(messages) ||
	    !messages[header.msg_type].get ||
	    header.payload_len != messages[header.msg_type].len)
		return -EINVAL;
	if (len - sizeof(header) < header.payload_len)
		return 0;
	if (dmu_peer_gone(file->peer))
		return -ENODEV;
	if (messages[header.msg_type].apart)
		dmu_peer_end(file->peer);
	r = messages[header.msg_type].get(file, header.id,
					  in + sizeof(header));
	if (messages[header.msg_type].apart)
		dmu_peer_begin(file->peer);
	return r ?: sizeof(header) + header.payload_len;
}

/* Take all whole messages of @in. Returns bytes taken, and *@r if it stopped. */
static size_t get_messages(struct dmu_file *file, const u8 *in, size_t len,
			   ssize_t *r)
{
	size_t done = 0;

	dmu_peer_begin(file->peer);
	do {
		*r = get_message(file, in + done, len - done);
		if (*r > 0)
			done += *r;
	} while (*r > 0);
	dmu_peer_end(file->peer);
	return done;
}

static ssize_t write_messages(struct dmu_file *file, const char __user *buf,
			      size_t count)
{
	size_t done = 0;
	ssize_t r = 0;

	while (done < count && !r) {
		size_t len = min(count - done, sizeof(file->in));
		size_t fault = copy_from_user(file->in, buf + done, len);
		size_t got = get_messages(file, file->in, len - fault, &r);

		done += got;
		if (!r && fault)
			r = -EFAULT;
		else if (!r && !got) /* what is left is less than a message */
			r = -EINVAL;
		cond_resched();
	}
	return done ? done : r;
}

static ssize_t dmu_write(struct file *filp, const char __user *buf,
			 size_t count, loff_t *pos)
{
	struct dmu_file *file = filp->private_data;
	unsigned int noio;
	ssize_t r;

	if (dmu_peer_gone(file->peer))
		return -ENODEV;
	r = mutex_lock_interruptible(&file->write_lock);
	if (r)
		return r;
	noio = memalloc_noio_save();
	r = write_messages(file, buf, count);
	memalloc_noio_restore(noio);
	mutex_unlock(&file->write_lock);
	return r;
}

/* --- open and close -------------------------------------------------------------- */

static int dmu_open(struct inode *inode, struct file *filp)
{
	struct dmu_node *node = container_of(inode->i_cdev, struct dmu_node,
					     cdev);
	struct dmu_file *file;
	struct dmu_peer *peer;
	unsigned int noio;

	/* The opener's authority counts; who writes later is not asked. */
	if (!capable(CAP_SYS_ADMIN))
		return -EACCES;
	file = kvzalloc(sizeof(*file), GFP_KERNEL);
	if (!file)
		return -ENOMEM;
	/* Whoever waits for this lock may serve what memory is written to. */
	noio = memalloc_noio_save();
	mutex_lock(&nodes_lock);
	peer = node->space ? dmu_peer_open(node->space) : ERR_PTR(-ENODEV);
	mutex_unlock(&nodes_lock);
	memalloc_noio_restore(noio);
	if (IS_ERR(peer)) {
		kvfree(file);
		return PTR_ERR(peer);
	}
	file->peer = peer;
	mutex_init(&file->read_lock);
	mutex_init(&file->write_lock);
	spin_lock_init(&file->replies_lock);
	INIT_LIST_HEAD(&file->replies);
	filp->private_data = file;
	return stream_open(inode, filp);
}

static int dmu_release(struct inode *inode, struct file *filp)
{
	struct dmu_file *file = filp->private_data;
	struct dmu_reply *reply, *next;

	dmu_peer_close(file->peer);
	list_for_each_entry_safe(reply, next, &file->replies, node)
		kfree(reply);
	kvfree(file);
	return 0;
}

static const struct file_operations dmu_fops = {
	.owner = THIS_MODULE,
	.open = dmu_open,
	.release = dmu_release,
	.read = dmu_read,
	.write = dmu_write,
	.poll = dmu_poll,
};

/* --- the node -------------------------------------------------------------------- */

static char *node_mode(dmu_devnode_device *dev, umode_t *mode)
{
	if (mode)
		*mode = 0600;
	return NULL;
}

static struct class dmu_class = {
	.name = "dm-userspace",
	DMU_CLASS_OWNER
	.devnode = node_mode,
};

static void node_release(struct device *dev)
{
	struct dmu_node *node = container_of(dev, struct dmu_node, dev);

	ida_free(&minors, MINOR(dev->devt));
	kfree(node);
}

/* Nobody can open it any more; who has it open has a reference to the space. */
static void node_forget_space(struct dmu_node *node)
{
	mutex_lock(&nodes_lock);
	node->space = NULL;
	mutex_unlock(&nodes_lock);
}

static int node_open(struct dmu_space *space)
{
	struct dmu_node *node = kzalloc(sizeof(*node), GFP_KERNEL);
	int minor, r;

	if (!node)
		return -ENOMEM;
	minor = ida_alloc_max(&minors, MINORMASK, GFP_KERNEL);
	if (minor < 0) {
		kfree(node);
		return minor;
	}
	device_initialize(&node->dev);
	node->dev.class = &dmu_class;
	node->dev.devt = MKDEV(MAJOR(first_devt), minor);
	node->dev.release = node_release;
	node->space = space;
	cdev_init(&node->cdev, &dmu_fops);
	node->cdev.owner = THIS_MODULE;
	r = dev_set_name(&node->dev, "dm-userspace%d", minor);
	if (!r)
		r = cdev_device_add(&node->cdev, &node->dev);
	if (r) {
		node_forget_space(node);
		put_device(&node->dev);
		return r;
	}
	space->transport = node;
	return 0;
}

static void node_close(struct dmu_space *space)
{
	struct dmu_node *node = space->transport;

	node_forget_space(node);
	cdev_device_del(&node->cdev, &node->dev);
	put_device(&node->dev);
}

static dev_t node_devt(struct dmu_space *space)
{
	struct dmu_node *node = space->transport;

	return node->dev.devt;
}

const struct dmu_transport_ops dmu_chardev_ops = {
	.open = node_open,
	.close = node_close,
	.devt = node_devt,
};

int __init dmu_chardev_init(void)
{
	int r;

	r = alloc_chrdev_region(&first_devt, 0, MINORMASK + 1, "dm-userspace");
	if (r)
		return r;
	r = class_register(&dmu_class);
	if (r)
		unregister_chrdev_region(first_devt, MINORMASK + 1);
	return r;
}

void dmu_chardev_exit(void)
{
	class_unregister(&dmu_class);
	unregister_chrdev_region(first_devt, MINORMASK + 1);
	ida_destroy(&minors);
}
