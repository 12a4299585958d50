#include "power_vfs.h"

#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECTOR 512
#define NAMES_MAX 16

/* What was done to a file and is not durable yet. */
struct pending {
	bool truncates, lost; /* lost: no later sync writes it */
	size_t at, n; /* of a truncation, N is the size */
	unsigned char *bytes;
	struct pending *next;
};

/* A file, whatever its name is. */
struct node {
	unsigned char *durable;
	size_t size, room;
	struct pending *first, **last;
	struct node *next;
};

/* What a name stands for now, and after a loss of power; NULL for nothing. */
struct name {
	char path[128];
	struct node *now, *durable;
};

struct power_file {
	sqlite3_file as_file;
	struct node *node; /* NULL if it is not watched */
	unsigned kind; /* POWER_DATABASE or 0 */
	bool syncs_folder; /* with its first sync */
	sqlite3_file *real; /* right behind this */
};

static sqlite3_vfs vfs, *standard;

static struct {
	pthread_mutex_t lock;
	bool on, cut, lies;
	int64_t sync_us;
	uint64_t random;
	unsigned cut_calls, fault_calls;
	int cut_left, fault_code, fault_from, fault_left, faults;
	struct name names[NAMES_MAX];
	size_t name_count;
	struct node *nodes;
} power = { .lock = PTHREAD_MUTEX_INITIALIZER };

uint64_t
power_draw(uint64_t *state, uint64_t bound)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31) % bound;
}

static bool
chance(unsigned percent)
{
	return power_draw(&power.random, 100) < percent;
}

/* Memory for a test; there is enough. */
static void *
room_for(void *old, size_t n)
{
	void *p = realloc(old, n + 1);

	if (p == NULL)
		abort();
	return p;
}

/* --- What is durable. */

static void
node_reach(struct node *node, size_t size)
{
	if (size > node->room) {
		node->room = 2 * size;
		node->durable = room_for(node->durable, node->room);
	}
	if (size > node->size)
		memset(node->durable + node->size, 0, size - node->size);
}

static void
apply(struct node *node, size_t at, const unsigned char *bytes, size_t n)
{
	node_reach(node, at + n);
	memcpy(node->durable + at, bytes, n);
	if (at + n > node->size)
		node->size = at + n;
}

static void
apply_pending(struct node *node, const struct pending *pending)
{
	if (!pending->truncates) {
		apply(node, pending->at, pending->bytes, pending->n);
	} else {
		node_reach(node, pending->n);
		node->size = pending->n;
	}
}

static void
pending_free(struct pending *pending)
{
	free(pending->bytes);
	free(pending);
}

static void
note(struct node *node, bool truncates, size_t at, const void *bytes, size_t n)
{
	struct pending *pending = room_for(NULL, sizeof(*pending));

	*pending = (struct pending){ truncates, false, at, n, NULL, NULL };
	if (!truncates) {
		pending->bytes = room_for(NULL, n);
		memcpy(pending->bytes, bytes, n);
	}
	*node->last = pending;
	node->last = &pending->next;
}

static void
make_durable(struct node *node)
{
	struct pending *pending;

	while ((pending = node->first) != NULL) {
		node->first = pending->next;
		if (!pending->lost)
			apply_pending(node, pending);
		pending_free(pending);
	}
	node->last = &node->first;
}

/* A sync has failed: the kernel takes what it could not write for clean. */
static void
lose_pending(struct node *node)
{
	for (struct pending *pending = node->first; pending != NULL; pending = pending->next)
		pending->lost = pending->lost || chance(50);
}

/* The power is gone: a write arrived, did not, or in part. */
static void
tear(struct node *node, const struct pending *pending)
{
	unsigned fate = (unsigned)power_draw(&power.random, 3);

	for (size_t at = 0, n; at < pending->n; at += n) {
		n = SECTOR - (pending->at + at) % SECTOR;
		n = n < pending->n - at ? n : pending->n - at;
		if (fate == 0 || (fate == 1 && chance(50)))
			apply(node, pending->at + at, pending->bytes + at, n);
	}
}

static void
settle(struct node *node)
{
	struct pending **all = NULL, *pending;
	size_t count = 0;

	for (pending = node->first; pending != NULL; pending = pending->next) {
		all = room_for(all, (count + 1) * sizeof(struct pending *));
		all[count++] = pending;
	}
	for (size_t i = count; i > 1; i--) {
		size_t j = power_draw(&power.random, i);

		pending = all[j];
		all[j] = all[i - 1];
		all[i - 1] = pending;
	}
	for (size_t i = 0; i < count; i++) {
		if (!all[i]->truncates)
			tear(node, all[i]);
		else if (chance(50))
			apply_pending(node, all[i]);
		pending_free(all[i]);
	}
	free(all);
	node->first = NULL;
	node->last = &node->first;
}

/* --- Names. */

static struct name *
name_of(const char *path)
{
	size_t i = 0;

	while (i < power.name_count && strcmp(power.names[i].path, path) != 0)
		i++;
	if (i == power.name_count) {
		if (power.name_count == NAMES_MAX || strlen(path) >= sizeof(power.names[i].path))
			abort();
		(void)stpcpy(power.names[i].path, path);
		power.names[i].now = power.names[i].durable = NULL;
		power.name_count++;
	}
	return &power.names[i];
}

static struct node *
node_new(void)
{
	struct node *node = room_for(NULL, sizeof(*node));

	*node = (struct node){ .next = power.nodes };
	node->last = &node->first;
	power.nodes = node;
	return node;
}

/* A file that was there before is durable. */
static struct node *
node_load(const char *path)
{
	struct node *node = node_new();
	unsigned char bytes[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	while (fd >= 0 && (n = read(fd, bytes, sizeof(bytes))) > 0)
		apply(node, node->size, bytes, (size_t)n);
	if (fd >= 0)
		(void)close(fd);
	return node;
}

/* One folder holds them all. */
static void
sync_folder(void)
{
	for (size_t i = 0; i < power.name_count; i++)
		power.names[i].durable = power.names[i].now;
}

static void
forget(void)
{
	struct node *node;

	while ((node = power.nodes) != NULL) {
		power.nodes = node->next;
		while (node->first != NULL) {
			struct pending *pending = node->first;

			node->first = pending->next;
			pending_free(pending);
		}
		free(node->durable);
		free(node);
	}
	power.name_count = 0;
}

static void
put_back(const struct name *name, const struct node *node)
{
	size_t done = 0;
	ssize_t n = 1;
	int fd;

	(void)unlink(name->path);
	if (node == NULL)
		return;
	fd = open(name->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	for (; fd >= 0 && n > 0 && done < node->size; done += (size_t)n)
		n = write(fd, node->durable + done, node->size - done);
	if (fd < 0 || n <= 0)
		abort();
	(void)close(fd);
}

void
power_restore(void)
{
	static const char *const endings[] = { "-wal", "-journal" };
	char shared[sizeof(power.names[0].path) + 8];

	(void)pthread_mutex_lock(&power.lock);
	for (struct node *node = power.nodes; node != NULL; node = node->next)
		settle(node);
	for (size_t i = 0; i < power.name_count; i++) {
		const struct name *name = &power.names[i];
		size_t n = strlen(name->path);

		put_back(name, chance(50) ? name->durable : name->now);
		for (size_t j = 0; j < sizeof(endings) / sizeof(endings[0]); j++)
			if (n > strlen(endings[j]) &&
			    strcmp(name->path + n - strlen(endings[j]), endings[j]) == 0)
				n = 0;
		if (n > 0) {
			(void)snprintf(shared, sizeof(shared), "%s-shm", name->path);
			(void)unlink(shared);
		}
	}
	forget(); /* what is there now is durable */
	power.cut = false;
	power.cut_left = 0;
	(void)pthread_mutex_unlock(&power.lock);
}

/* --- What is told to the disk. */

void
power_on(uint64_t seed)
{
	(void)pthread_mutex_lock(&power.lock);
	forget();
	power.on = true;
	power.cut = power.lies = false;
	power.cut_left = power.fault_left = power.faults = 0;
	power.random = seed;
	(void)pthread_mutex_unlock(&power.lock);
}

void
power_off(void)
{
	(void)pthread_mutex_lock(&power.lock);
	forget();
	power.on = power.cut = power.lies = false;
	power.cut_left = power.fault_left = 0;
	power.sync_us = 0;
	(void)pthread_mutex_unlock(&power.lock);
}

void
power_cut_after(unsigned calls, int count)
{
	(void)pthread_mutex_lock(&power.lock);
	power.cut_calls = calls;
	power.cut_left = count;
	(void)pthread_mutex_unlock(&power.lock);
}

bool
power_is_cut(void)
{
	bool is;

	(void)pthread_mutex_lock(&power.lock);
	is = power.cut;
	(void)pthread_mutex_unlock(&power.lock);
	return is;
}

void
power_fault(unsigned calls, int code, int from, int times)
{
	(void)pthread_mutex_lock(&power.lock);
	power.fault_calls = calls;
	power.fault_code = code;
	power.fault_from = from;
	power.fault_left = times;
	power.faults = 0;
	(void)pthread_mutex_unlock(&power.lock);
}

int
power_faults(void)
{
	int faults;

	(void)pthread_mutex_lock(&power.lock);
	faults = power.faults;
	(void)pthread_mutex_unlock(&power.lock);
	return faults;
}

void
power_lie(bool lies)
{
	(void)pthread_mutex_lock(&power.lock);
	power.lies = lies;
	(void)pthread_mutex_unlock(&power.lock);
}

void
power_sync_takes(int64_t us)
{
	(void)pthread_mutex_lock(&power.lock);
	power.sync_us = us;
	(void)pthread_mutex_unlock(&power.lock);
}

/* Whether a call of these kinds may go on: OK, or the error it ends with.  With the lock held.  At
 * the call where the power goes, what it writes is under way: *LAST. */
static int
admit(unsigned kinds, int broken, bool *last)
{
	bool counts = (kinds & power.cut_calls) != 0;

	*last = false;
	if (power.cut)
		return broken;
	if (power.cut_left > 0 && counts && --power.cut_left == 0) {
		power.cut = *last = true;
		return broken;
	}
	if (power.fault_left == 0 || (kinds & power.fault_calls) == 0 || --power.fault_from > 0)
		return SQLITE_OK;
	power.fault_left--;
	power.faults++;
	return power.fault_code;
}

/* The same, for a call that writes nothing. */
static int
admit_alone(unsigned kinds, int broken)
{
	bool last;
	int code;

	(void)pthread_mutex_lock(&power.lock);
	code = admit(kinds, broken, &last);
	(void)pthread_mutex_unlock(&power.lock);
	return code;
}

/* --- The methods of a file. */

static struct power_file *
own(sqlite3_file *file)
{
	return (struct power_file *)(void *)file;
}

static sqlite3_file *
real(sqlite3_file *file)
{
	return own(file)->real;
}

static int
file_close(sqlite3_file *file)
{
	return real(file)->pMethods->xClose(real(file));
}

static int
file_read(sqlite3_file *file, void *bytes, int n, sqlite3_int64 at)
{
	int code = admit_alone(POWER_READ, SQLITE_IOERR_READ);

	return code != SQLITE_OK ? code : real(file)->pMethods->xRead(real(file), bytes, n, at);
}

static int
file_write(sqlite3_file *file, const void *bytes, int n, sqlite3_int64 at)
{
	struct power_file *f = own(file);
	bool last;
	int code, kept = n;

	(void)pthread_mutex_lock(&power.lock);
	code = admit(POWER_WRITE | f->kind, SQLITE_IOERR_WRITE, &last);
	if (code != SQLITE_OK && !last)
		kept = power.cut ? 0 : n / 2; /* a full disk takes what fits */
	if (f->node != NULL && kept > 0)
		note(f->node, false, (size_t)at, bytes, (size_t)kept);
	(void)pthread_mutex_unlock(&power.lock);
	if (kept > 0 && f->real->pMethods->xWrite(f->real, bytes, kept, at) != SQLITE_OK)
		abort(); /* the real disk is full */
	return code;
}

static int
file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
	struct power_file *f = own(file);
	bool last;
	int code;

	(void)pthread_mutex_lock(&power.lock);
	code = admit(POWER_OTHER | f->kind, SQLITE_IOERR_TRUNCATE, &last);
	if (f->node != NULL && (code == SQLITE_OK || last))
		note(f->node, true, 0, NULL, (size_t)size);
	(void)pthread_mutex_unlock(&power.lock);
	return code != SQLITE_OK ? code : f->real->pMethods->xTruncate(f->real, size);
}

static int
file_sync(sqlite3_file *file, int flags)
{
	struct power_file *f = own(file);
	struct timespec pause;
	bool last;
	int code;

	(void)flags;
	(void)pthread_mutex_lock(&power.lock);
	pause = (struct timespec){ .tv_nsec = (long)power.sync_us * 1000 };
	code = admit(POWER_SYNC | f->kind, SQLITE_IOERR_FSYNC, &last);
	if (code == SQLITE_OK && f->node != NULL && !power.lies) {
		make_durable(f->node);
		if (f->syncs_folder)
			sync_folder();
		f->syncs_folder = false;
	} else if (code != SQLITE_OK && !power.cut && f->node != NULL) {
		lose_pending(f->node);
	}
	(void)pthread_mutex_unlock(&power.lock);
	if (pause.tv_nsec > 0)
		(void)nanosleep(&pause, NULL);
	return code;
}

static int
file_size(sqlite3_file *file, sqlite3_int64 *size)
{
	return real(file)->pMethods->xFileSize(real(file), size);
}

static int
file_lock(sqlite3_file *file, int level)
{
	return real(file)->pMethods->xLock(real(file), level);
}

static int
file_unlock(sqlite3_file *file, int level)
{
	return real(file)->pMethods->xUnlock(real(file), level);
}

static int
file_check_reserved(sqlite3_file *file, int *is)
{
	return real(file)->pMethods->xCheckReservedLock(real(file), is);
}

static int
file_control(sqlite3_file *file, int what, void *arg)
{
	return real(file)->pMethods->xFileControl(real(file), what, arg);
}

static int
file_sector(sqlite3_file *file)
{
	return real(file)->pMethods->xSectorSize(real(file));
}

static int
file_traits(sqlite3_file *file)
{
	return real(file)->pMethods->xDeviceCharacteristics(real(file));
}

static int
file_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **at)
{
	return real(file)->pMethods->xShmMap(real(file), page, size, extend, at);
}

static int
file_shm_lock(sqlite3_file *file, int offset, int n, int flags)
{
	return real(file)->pMethods->xShmLock(real(file), offset, n, flags);
}

static void
file_shm_barrier(sqlite3_file *file)
{
	real(file)->pMethods->xShmBarrier(real(file));
}

static int
file_shm_unmap(sqlite3_file *file, int removes)
{
	return real(file)->pMethods->xShmUnmap(real(file), removes);
}

static const sqlite3_io_methods methods = {
	.iVersion = 2,
	.xClose = file_close,
	.xRead = file_read,
	.xWrite = file_write,
	.xTruncate = file_truncate,
	.xSync = file_sync,
	.xFileSize = file_size,
	.xLock = file_lock,
	.xUnlock = file_unlock,
	.xCheckReservedLock = file_check_reserved,
	.xFileControl = file_control,
	.xSectorSize = file_sector,
	.xDeviceCharacteristics = file_traits,
	.xShmMap = file_shm_map,
	.xShmLock = file_shm_lock,
	.xShmBarrier = file_shm_barrier,
	.xShmUnmap = file_shm_unmap,
};

/* --- The methods of the disk. */

/* A file that is being opened: what stands behind its name. */
static struct node *
watch(const char *path, bool was_there)
{
	struct name *name = name_of(path);

	if (name->now == NULL) {
		name->now = was_there ? node_load(path) : node_new();
		if (was_there)
			name->durable = name->now;
	}
	return name->now;
}

static int
disk_open(sqlite3_vfs *self, const char *path, sqlite3_file *file, int flags, int *out)
{
	const int journals = SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL;
	struct power_file *f = own(file);
	bool was_there = path != NULL && access(path, F_OK) == 0;
	int code = admit_alone(POWER_OPEN, SQLITE_CANTOPEN);

	(void)self;
	*f = (struct power_file){ .real = (sqlite3_file *)(void *)(f + 1) };
	if (code == SQLITE_OK)
		code = standard->xOpen(standard, path, f->real, flags, out);
	if (code != SQLITE_OK)
		return code;
	f->as_file.pMethods = &methods;
	f->kind = (flags & SQLITE_OPEN_MAIN_DB) != 0 ? POWER_DATABASE : 0;
	f->syncs_folder = (flags & SQLITE_OPEN_CREATE) != 0 && (flags & journals) != 0;
	(void)pthread_mutex_lock(&power.lock);
	if (power.on && path != NULL)
		f->node = watch(path, was_there);
	(void)pthread_mutex_unlock(&power.lock);
	return SQLITE_OK;
}

static int
disk_delete(sqlite3_vfs *self, const char *path, int syncs_folder)
{
	bool last;
	int code;

	(void)self;
	(void)pthread_mutex_lock(&power.lock);
	code = admit(POWER_OTHER, SQLITE_IOERR_DELETE, &last);
	if (power.on && (code == SQLITE_OK || last) && access(path, F_OK) == 0) {
		(void)watch(path, true);
		name_of(path)->now = NULL;
		if (syncs_folder && !last && !power.lies)
			sync_folder();
	}
	(void)pthread_mutex_unlock(&power.lock);
	/* The folder of the real files need not be synced. */
	return code != SQLITE_OK ? code : standard->xDelete(standard, path, 0);
}

static int
disk_access(sqlite3_vfs *self, const char *path, int flags, int *out)
{
	(void)self;
	return standard->xAccess(standard, path, flags, out);
}

static void
install(void)
{
	standard = sqlite3_vfs_find(NULL);
	if (standard == NULL)
		abort();
	vfs = *standard;
	vfs.zName = "power";
	vfs.szOsFile = (int)sizeof(struct power_file) + standard->szOsFile;
	vfs.xOpen = disk_open;
	vfs.xDelete = disk_delete;
	vfs.xAccess = disk_access;
	if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK)
		abort();
}

void
power_install(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	(void)pthread_once(&once, install);
}
