"""python -m services.jobs"""

from services.jobs.service import SERVICE
from shared.service.runner import main

if __name__ == "__main__":
    main(SERVICE)
