/*
 * power_vfs.h: a disk under SQLite whose power may go, and whose writes may fail.
 *
 *	power_install();                before the first db_open() of the process
 *	power_on(seed);                 from now on, which bytes are durable is known
 *	power_cut_after(POWER_ANY, 40); at the 40th change from now the power goes
 *	...                             all that is tried fails; close everything
 *	power_restore();                the files are what was durable, and some of the rest
 *
 * Durable is what was written before an xSync() of its file that succeeded, and a name that was
 * made or removed before its folder was synced, as SQLite does with its journals.  All else is
 * kept, dropped or torn at 512 bytes, in any order, by the seed.  The real files are never synced.
 *
 * power_fault() lets calls fail while the power stays; without power_on() that is all it does.
 * A failed xSync() is as on Linux: what it should have written may be lost, and no later one
 * makes up for it.
 *
 * One disk a process; any thread.
 */
#ifndef CAREDESK_POWER_VFS_H
#define CAREDESK_POWER_VFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What may fail, and where the power may go. */
enum power_call {
	POWER_WRITE = 1 << 0,
	POWER_SYNC = 1 << 1,
	POWER_READ = 1 << 2,
	POWER_OPEN = 1 << 3,
	POWER_OTHER = 1 << 4, /* truncation, deletion */
	POWER_DATABASE = 1 << 5, /* writes and syncs of a database file itself: checkpoints */
	POWER_ANY = POWER_WRITE | POWER_SYNC | POWER_OTHER,
};

void power_install(void);
void power_on(uint64_t seed);
void power_off(void);

/* The COUNT-th call of these from now is the last; 0 for never. */
void power_cut_after(unsigned calls, int count);
bool power_is_cut(void);

/* Once everything is closed: the files are put back, and the power is there again. */
void power_restore(void);

/* The calls number FROM to FROM + TIMES - 1 of these fail with CODE, one of SQLite's.  TIMES 0:
 * none does. */
void power_fault(unsigned calls, int code, int from, int times);

/* How many calls have failed since power_fault(). */
int power_faults(void);

/* An xSync() that says OK and does nothing. */
void power_lie(bool lies);

/* Each xSync() takes so long. */
void power_sync_takes(int64_t us);

/* A number below BOUND, drawn from *STATE. */
uint64_t power_draw(uint64_t *state, uint64_t bound);

#endif
