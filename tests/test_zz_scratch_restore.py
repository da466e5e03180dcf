import time
import pytest
from tests.support import *
from tests.servers import OWNER
@pytest.mark.all_majors
def test_a(everything, new_database, project):
    project.use(everything)
    t=time.time(); r=project.inv("db.dump"); print(time.time()-t, r.stdout, r.stderr); assert r.returncode==0
    target=new_database()
    t=time.time(); r=project.use(target).inv("db.restore"); print(time.time()-t, r.stdout, r.stderr); assert r.returncode==0
    t=time.time(); a=everything.dump_text();print(time.time()-t)
    b=target.dump_text(); open("/tmp/rt/a.sql","wb").write(a)
    assert a==b
    t=time.time(); r=project.inv("db.restore","--clean","--yes"); print(time.time()-t, r.stdout, r.stderr); assert r.returncode==0
    b=target.dump_text(); open("/tmp/rt/b.sql","wb").write(b); assert a==b
    t=time.time(); r=project.inv("db.verify"); print(time.time()-t); assert r.returncode==0
    t=time.time(); r=project.inv("--list"); print(time.time()-t); assert r.returncode==0
